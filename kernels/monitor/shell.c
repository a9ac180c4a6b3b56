/* A small shell on the serial line: reads a line, runs a command, survives its faults. */
#include "command.h"
#include "interrupt.h"
#include "platform.h"
#include "serial.h"
#include "timer.h"

#define LINE_MAX 256
#define WORDS_MAX 8

#define CTRL_C 3
#define BELL 7
#define BACKSPACE 8
#define CTRL_U 21
#define ESCAPE 27
#define DELETE 127

extern const struct command *const commands_start[], *const commands_end[];

const struct start_info *start_info;

static void *checkpoint[5];

static const struct command *find(const char *name)
{
    for (const struct command *const *at = commands_start; at < commands_end; at++)
        if (text_equal((*at)->name, name))
            return *at;
    return NULL;
}

static void unknown(const char *name)
{
    print("unknown command '%s'; try help\n", name);
}

COMMAND(help, "[COMMAND]", "list the commands, or show one")
{
    if (argc > 1) {
        const struct command *command = find(argv[1]);
        if (command)
            print("%s %s\n  %s\n", command->name, command->arguments, command->summary);
        else
            unknown(argv[1]);
        return;
    }
    for (const struct command *const *at = commands_start; at < commands_end; at++)
        print("%-8s%-29s%s\n", (*at)->name, (*at)->arguments, (*at)->summary);
    print("numbers: decimal or 0x hex; Ctrl-C stops a command, Ctrl-U clears the line\n");
}

bool required(int argc, char **argv, int index, const char *what, uint64_t *value)
{
    if (index >= argc) {
        print("%s: %s?\n", argv[0], what);
        return false;
    }
    if (!parse_number(argv[index], value)) {
        print("%s: %s '%s' is not a number\n", argv[0], what, argv[index]);
        return false;
    }
    return true;
}

bool optional(int argc, char **argv, int index, const char *what, uint64_t otherwise,
              uint64_t *value)
{
    *value = otherwise;
    return index >= argc || required(argc, argv, index, what, value);
}

bool width(int argc, char **argv, int index, unsigned otherwise, unsigned widest, unsigned *bytes)
{
    uint64_t value;
    if (!optional(argc, argv, index, "width", otherwise, &value))
        return false;
    *bytes = value;
    if (value > 0 && value <= widest && (value & (value - 1)) == 0)
        return true;
    print("%s: width is 1, 2%s or %u bytes\n", argv[0], widest == 8 ? ", 4" : "", widest);
    return false;
}

bool fits(char **argv, uint64_t value, unsigned bytes)
{
    if (bytes == 8 || value >> (8 * bytes) == 0)
        return true;
    print("%s: 0x%lx does not fit in %u byte%s\n", argv[0], value, bytes, bytes == 1 ? "" : "s");
    return false;
}

/* Leaves the fault behind: nothing between here and the prompt holds anything. */
static void recover(const struct trap_frame *frame)
{
    fault_print(frame);
    __builtin_longjmp(checkpoint, 1);
}

static void run(char *line)
{
    char *argv[WORDS_MAX];
    int argc = 0;
    for (char *at = line; *at;) {
        while (*at == ' ')
            *at++ = 0;
        if (!*at)
            break;
        if (argc == WORDS_MAX) {
            print("%s: too many words\n", argv[0]);
            return;
        }
        argv[argc++] = at;
        while (*at && *at != ' ')
            at++;
    }
    if (!argc)
        return;
    const struct command *command = find(argv[0]);
    if (command)
        command->run(argc, argv);
    else
        unknown(argv[0]);
}

/* The arrow keys and their like: ESC [ ... letter, or ESC and one more. */
static void skip_escape_sequence(void)
{
    if (serial_wait() != '[')
        return;
    uint8_t byte;
    do
        byte = serial_wait();
    while (byte < '@' || byte > '~');
}

static void erase(void)
{
    print("\b \b");
}

static void read_line(char *line)
{
    static uint8_t previous;
    size_t length = 0;
    print("vmlab> ");
    for (;;) {
        uint8_t byte = serial_wait();
        bool second_half = byte == '\n' && previous == '\r';
        previous = byte;
        if (byte == '\r' || (byte == '\n' && !second_half)) {
            break;
        } else if (byte == CTRL_C) {
            print("^C");
            length = 0;
            break;
        } else if (byte == CTRL_U) {
            for (; length; length--)
                erase();
        } else if (byte == BACKSPACE || byte == DELETE) {
            if (length) {
                erase();
                length--;
            }
        } else if (byte == ESCAPE) {
            skip_escape_sequence();
        } else if (byte >= ' ' && byte <= '~') {
            if (length < LINE_MAX - 1)
                line[length++] = byte;
            else
                byte = BELL;
            serial_put(byte);
        }
    }
    line[length] = 0;
    print("\n");
}

void main(const struct start_info *info)
{
    static char line[LINE_MAX];

    start_info = info;
    serial_crlf = true;
    print("vmlab monitor; help lists the commands\n");
    interrupt_init();
    timer_init();
    for (unsigned n = 0; n < DEVICE_COUNT; n++)
        irq_enable(DEVICE_FIRST_IRQ + n, NULL);
    serial_input_init();
    fault_handler = recover;
    for (;;) {
        if (!__builtin_setjmp(checkpoint)) {
            interrupts_on();
            read_line(line);
            run(line);
        }
    }
}
