/* What the MMU is switched on with, on the first CPU and the others. Assembly only. */
#define MAIR 0xff04              /* 0: Device-nGnRE, 1: Normal, write-back */
/* 39 bits of address, 4 KiB pages, tables write-back and inner shareable, 40 bits of physical address;
 * no second table */
#define TCR_LOW 0x3519
#define TCR_HIGH 0x0002
#define TCR_NO_SECOND 0x80       /* bits 31 to 16 */
#define SCTLR_ON 0x1005          /* M | C | I */

#define BLOCK 0x401              /* a block, accessed */
#define BLOCK_DEVICE (BLOCK | 0x0060000000000000)
#define BLOCK_NORMAL (BLOCK | 0x304)

/* x0 is nobody's; so is x1. */
        .macro mmu_on
        adrp x0, page_table
        msr ttbr0_el1, x0
        mov x0, #MAIR
        msr mair_el1, x0
        movz x0, #TCR_LOW
        movk x0, #TCR_NO_SECOND, lsl #16
        movk x0, #TCR_HIGH, lsl #32
        msr tcr_el1, x0
        isb
        mrs x0, sctlr_el1
        mov x1, #SCTLR_ON
        orr x0, x0, x1
        msr sctlr_el1, x0
        isb
        .endm
