# Rules shared by all kernels. A kernel's Makefile sets NAME, SOURCES (its own files) and COMMON
# (files of ../common), then includes this.
#
#   make                         gcc, or whatever CC is
#   make CC=clang LD=ld.lld      the LLVM tools; these also cross-compile
#   make IMAGES=/tmp/i BUILD=/tmp/b

COMMON_DIR := $(dir $(lastword $(MAKEFILE_LIST)))
BUILD ?= build
IMAGES ?= $(COMMON_DIR)../images
IMAGE := $(IMAGES)/$(NAME).elf

ifneq ($(findstring clang,$(CC)),)
TARGET_FLAGS := --target=x86_64-linux-gnu
endif

OPTIMIZE ?= -O2

# General registers only: no kernel here saves vector state, and hypervisors that emulate ring 0
# lack much of it.
CFLAGS := $(TARGET_FLAGS) -std=c11 $(OPTIMIZE) -Wall -Wextra -Werror \
	-ffreestanding -nostdlib -fno-pic -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -fno-common -ffunction-sections -fdata-sections \
	-m64 -mcmodel=small -mno-red-zone -mgeneral-regs-only \
	'-ffile-prefix-map=$(CURDIR)/..=.' -I$(COMMON_DIR)
LDFLAGS := -m elf_x86_64 -static -nostdlib --gc-sections --strip-debug $(SYMBOLS) --build-id=none \
	-z noexecstack -z max-page-size=0x1000 -T $(COMMON_DIR)kernel.ld

OBJECTS := $(addprefix $(BUILD)/common/,$(addsuffix .o,$(basename $(COMMON)))) \
	$(addprefix $(BUILD)/,$(addsuffix .o,$(basename $(SOURCES))))

$(IMAGE): $(OBJECTS) $(COMMON_DIR)kernel.ld
	@mkdir -p $(@D)
	$(LD) $(LDFLAGS) -o $@ $(OBJECTS)

$(BUILD)/common/%.o: $(COMMON_DIR)%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

$(BUILD)/common/%.o: $(COMMON_DIR)%.S
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -c -o $@ $<

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(OBJECTS:.o=.d)
