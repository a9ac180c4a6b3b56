// A multiboot guest of the kind that tutorials build: it writes to 0xb8000 and takes keys by interrupt 1.
// Each scan code is shown on the second line as two hexadecimal digits, the cursor behind it.
// Escape scrolls by a line with the start address, F1 makes 50 lines, F2 takes the cursor off, F3 resets.
        .code32
        .set    MAGIC, 0x1badb002
        .section .text
header: .long   MAGIC, 3, -(MAGIC + 3)

        .global _start
_start: movl    $stack, %esp
        lgdt    gdtr
        ljmp    $8, $1f
1:      movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $keyboard, %eax                 // the gate of vector 0x21
        movw    %ax, idt + 8 * 0x21
        movw    $8, idt + 8 * 0x21 + 2
        movw    $0x8e00, idt + 8 * 0x21 + 4
        shrl    $16, %eax
        movw    %ax, idt + 8 * 0x21 + 6
        lidt    idtr
        movb    $0x11, %al                      // the PICs: vectors from 0x20, interrupt 1 alone
        outb    %al, $0x20
        outb    %al, $0xa0
        movb    $0x20, %al
        outb    %al, $0x21
        movb    $0x28, %al
        outb    %al, $0xa1
        movb    $4, %al
        outb    %al, $0x21
        movb    $2, %al
        outb    %al, $0xa1
        movb    $1, %al
        outb    %al, $0x21
        outb    %al, $0xa1
        movb    $0xfd, %al
        outb    %al, $0x21
        movb    $0xff, %al
        outb    %al, $0xa1
        movl    $ready, %esi
        movl    $0xb8000, %edi
        movb    $0x1e, %ah                      // yellow on blue
2:      lodsb
        testb   %al, %al
        jz      3f
        stosw
        jmp     2b
3:      movl    $0xb80a0, %edi
idle:   movl    $stack, %esp
        sti
4:      hlt
        jmp     4b

keyboard:
        inb     $0x60, %al
        movb    %al, %bl
        movb    %al, %bh
        shrb    $4, %al
        call    digit
        movb    %bh, %al
        andb    $15, %al
        call    digit
        cmpb    $0x01, %bl
        jne     1f
        movw    $0x500d, %ax                    // start address: a line on
        jmp     set
1:      cmpb    $0x3b, %bl
        jne     1f
        movw    $0x4709, %ax                    // maximum scan line: 8 lines a character
        jmp     set
1:      cmpb    $0x3c, %bl
        jne     1f
        movw    $0x200a, %ax                    // cursor start: off
        jmp     set
1:      cmpb    $0x3d, %bl
        jne     1f
        movb    $0xfe, %al
        outb    %al, $0x64
1:      movl    %edi, %ebx                      // the cursor's cell
        subl    $0xb8000, %ebx
        shrl    $1, %ebx
        movw    $0x3d4, %dx
        movb    $0x0e, %al
        movb    %bh, %ah
        outw    %ax, %dx
        movb    $0x0f, %al
        movb    %bl, %ah
set:    movw    $0x3d4, %dx
        outw    %ax, %dx
        movb    $0x20, %al
        outb    %al, $0x20
        jmp     idle                            // without iret, which a KVM that emulates this lacks

digit:  addb    $'0', %al
        cmpb    $'9', %al
        jbe     1f
        addb    $'a' - '9' - 1, %al
1:      movb    $0x07, %ah
        stosw
        ret

ready:  .asciz  "ready"
        .balign 8
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:   .word   . - gdt - 1
        .long   gdt
idtr:   .word   8 * 0x30 - 1
        .long   idt
        .bss
        .balign 16
idt:    .skip   8 * 0x30
        .skip   4096
stack:
