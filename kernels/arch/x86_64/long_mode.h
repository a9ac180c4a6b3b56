/* What the way into long mode takes, for the first CPU and the others. Assembly only. */
#define CR0_LONG 0x80000011      /* PG | ET | PE */
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define GDT_SIZE 24
