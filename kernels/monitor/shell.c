/* A small shell on the serial line: reads a line, runs a command, survives its faults. */
#include "command.h"
#include "hotplug.h"
#include "interrupt.h"
#include "platform.h"
#include "serial.h"
#include "shell.h"
#include "timer.h"
#include "virtio.h"

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

char *rest(int argc, char **argv, int index)
{
    if (index >= argc)
        return "";
    for (char *at = argv[index]; at < argv[argc - 1]; at++)
        if (!*at)
            *at = ' ';
    return argv[index];
}

unsigned unit_argument(int *argc, char ***argv)
{
    uint64_t unit;
    if (*argc < 2 || !parse_number((*argv)[1], &unit) || unit > UINT32_MAX)
        return 0;
    (*argv)[1] = (*argv)[0];
    --*argc;
    ++*argv;
    return unit;
}

static bool takes_rest(const struct command *command)
{
    size_t length = text_length(command->arguments);
    return length >= 3 && text_equal(command->arguments + length - 3, "...");
}

static void run(char *line)
{
    char *argv[WORDS_MAX];
    int argc = 0;
    const struct command *command = NULL;
    for (char *at = line; *at;) {
        while (*at == ' ')
            *at++ = 0;
        if (!*at)
            break;
        if (argc == 1)
            command = find(argv[0]);
        if (argc == WORDS_MAX) {
            print("%s: too many words\n", argv[0]);
            return;
        }
        argv[argc++] = at;
        if (argc == WORDS_MAX && command && takes_rest(command))
            break;
        while (*at && *at != ' ')
            at++;
    }
    if (argc == 1)
        command = find(argv[0]);
    if (command)
        command->run(argc, argv);
    else if (argc)
        unknown(argv[0]);
}

/* The line being typed; `prompting` while it is, `broken` when something else was printed since. */
static char line[LINE_MAX];
static size_t length;
static bool prompting, broken;

void notice(void)
{
    if (prompting && !broken)
        print("\n");
    broken = true;
}

static void prompt(void)
{
    print("vmlab> ");
    broken = false;
}

uint8_t wait_key(void)
{
    for (;;) {
        int byte;
        interrupts_off();
        while ((byte = serial_get()) < 0 && !hotplug_attention && !virtio_attention)
            sleep_until_interrupt();
        interrupts_on();
        if (byte >= 0)
            return byte;
        if (hotplug_attention)
            hotplug_attend();
        if (virtio_attention)
            virtio_attend();
        if (prompting && broken) {
            prompt();
            serial_write(line, length);
        }
    }
}

/* The arrow keys and their like: ESC [ ... letter, or ESC and one more. */
static void skip_escape_sequence(void)
{
    if (wait_key() != '[')
        return;
    uint8_t byte;
    do
        byte = wait_key();
    while (byte < '@' || byte > '~');
}

static void erase(void)
{
    print("\b \b");
}

static void read_line(void)
{
    static uint8_t previous;
    length = 0;
    prompting = true;
    prompt();
    for (;;) {
        uint8_t byte = wait_key();
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
    prompting = false;
    print("\n");
}

void main(const struct start_info *info)
{
    start_info = info;
    serial_crlf = true;
    print("vmlab monitor; help lists the commands\n");
    interrupt_init();
    timer_init();
    for (unsigned n = 0; n < DEVICE_COUNT; n++)
        irq_enable(DEVICE_FIRST_IRQ + n, NULL);
    hotplug_init();
    serial_input_init();
    fault_handler = recover;
    for (;;) {
        if (!__builtin_setjmp(checkpoint)) {
            interrupts_on();
            read_line();
            run(line);
        }
    }
}
