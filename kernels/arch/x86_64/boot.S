/* PVH entry: 32-bit protected mode, paging off, %ebx = struct hvm_start_info.
 *
 * Everything that can be laid out by the assembler is: page tables, GDT. A hypervisor that emulates
 * ring 0 spends most of a microsecond per instruction, so the way to main() is kept to 18 of them.
 */
#include "long_mode.h"
#include "platform.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define PAGE_TABLE 0x3           /* present, writable */
#define PAGE_2M 0xe3             /* present, writable, accessed, dirty, large */

        .section .note.pvh, "a", @note
        .balign 4
        .long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .long pvh_start

        .section .text.boot, "ax"
        .code32
        .globl pvh_start
        .type pvh_start, @function
pvh_start:
        mov $pml4, %eax
        mov %eax, %cr3
        mov $CR4_PAE, %eax
        mov %eax, %cr4
        mov $MSR_EFER, %ecx
        mov $EFER_LME, %eax
        xor %edx, %edx
        wrmsr
        mov $CR0_LONG, %eax
        mov %eax, %cr0
        lgdt gdt_pointer
        ljmp $CODE_SELECTOR, $start64

        .code64
start64:
        mov $DATA_SELECTOR, %eax
        mov %eax, %ss            /* iretq reloads it: the loader's selector is not in our GDT */
        mov $boot_stack_top, %esp
        mov %ebx, %edi
        cld
        call main
1:      cli
        hlt
        jmp 1b
        .size pvh_start, . - pvh_start

        .section .rodata.gdt, "a"
        .balign 8
        .globl gdt
gdt:    .quad 0
        .quad 0x00af9b000000ffff /* CODE_SELECTOR: 64-bit code, ring 0 */
        .quad 0x00cf93000000ffff /* DATA_SELECTOR: writable data */
gdt_pointer:
        .word GDT_SIZE - 1
        .quad gdt                /* lgdt takes 4 bytes of it below long mode, 8 in it */

        .section .data.pages, "aw"
        .balign 4096
        .globl pml4
pml4:   .quad pdpt + PAGE_TABLE
        .fill 511, 8, 0
pdpt:   .quad directories + PAGE_TABLE
        .quad directories + 0x1000 + PAGE_TABLE
        .quad directories + 0x2000 + PAGE_TABLE
        .quad directories + 0x3000 + PAGE_TABLE
        .fill 508, 8, 0
directories:
        .set page, PAGE_2M
        .rept 2048
        .quad page
        .set page, page + 0x200000
        .endr

        .section .bss.stack, "aw", @nobits
        .balign 16
        .skip 16384
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
