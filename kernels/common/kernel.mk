# Rules shared by all kernels. A kernel's Makefile sets NAME, SOURCES (its own files), COMMON (files of
# ../common) and MACHINE (files of ../arch/$(ARCH), where each architecture has one of that name), then
# includes this.
#
#   make                         gcc, or whatever CC is
#   make ARCH=arm64              for that architecture, by Debian's cross compiler; or riscv64
#   make CC=clang LD=ld.lld      the LLVM tools; these also cross-compile
#   make IMAGES=/tmp/i BUILD=/tmp/b

COMMON_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
ARCH ?= x86_64
ARCH_DIR := $(COMMON_DIR)../arch/$(ARCH)/
BUILD ?= build/$(ARCH)
IMAGES ?= $(COMMON_DIR)../images$(if $(filter-out x86_64,$(ARCH)),/$(ARCH))
IMAGE := $(IMAGES)/$(NAME).elf

# What the machine is called by compilers, its flags, the files of it that MACHINE may name, and more of COMMON.
include $(ARCH_DIR)arch.mk

ifneq ($(findstring clang,$(CC)),)
TARGET_FLAGS := --target=$(TRIPLE)
else ifeq ($(origin CC),default)
ifneq ($(ARCH),$(shell uname -m))
CC := $(TRIPLE)-gcc
LD := $(TRIPLE)-ld
endif
endif

OPTIMIZE ?= -O2

# ARCH_FLAGS hold to general registers: no kernel here saves vector state, and hypervisors that emulate ring 0
# lack much of it.
CFLAGS := $(TARGET_FLAGS) -std=c11 $(OPTIMIZE) -Wall -Wextra -Werror \
	-ffreestanding -nostdlib -fno-pic -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fno-common -ffunction-sections -fdata-sections \
	$(ARCH_FLAGS) \
	'-ffile-prefix-map=$(CURDIR)/..=.' -I. -I$(COMMON_DIR) -I$(ARCH_DIR)
LDFLAGS := -m $(EMULATION) -static -nostdlib --gc-sections --strip-debug $(SYMBOLS) --build-id=none \
	-z noexecstack -z max-page-size=0x1000 -L $(COMMON_DIR) -T $(ARCH_DIR)kernel.ld

OBJECTS := $(addprefix $(BUILD)/common/,$(addsuffix .o,$(basename $(COMMON)))) \
	$(addprefix $(BUILD)/arch/,$(addsuffix .o,$(basename $(foreach part,$(MACHINE),$($(part)))))) \
	$(addprefix $(BUILD)/,$(addsuffix .o,$(basename $(SOURCES))))

$(IMAGE): $(OBJECTS) $(ARCH_DIR)kernel.ld $(COMMON_DIR)sections.ld
	@mkdir -p $(@D)
	$(LD) $(LDFLAGS) -o $@ $(OBJECTS)

$(BUILD)/common/%.o: $(COMMON_DIR)%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

$(BUILD)/common/%.o: $(COMMON_DIR)%.S
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

$(BUILD)/arch/%.o: $(ARCH_DIR)%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

$(BUILD)/arch/%.o: $(ARCH_DIR)%.S
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(OBJECTS:.o=.d)
