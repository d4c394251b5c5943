# SPDX-License-Identifier: GPL-2.0
#
# cowpool: copy-on-write as a kernel module. "make help" says what there is.

KDIR ?= /lib/modules/$(shell uname -r)/build
CACHE := $(or $(COWPOOL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cowpool)
cowpool_SOURCES := $(wildcard module/Kbuild module/*.[ch] uapi/linux/*.h)
delay_SOURCES := $(wildcard selftests/delay/*)

all: module tools

help:
	@echo 'On any machine that has Debian 12 or 13:'
	@echo '  make demo        set up, build, and watch copy-on-write happen, in a VM'
	@echo '  make check       set up, build, and run every check, in VMs'
	@echo '  make check-debug build kernels that check themselves, once, and run the'
	@echo '                   selftests and the stress there (KERNELS="6.12-kasan",'
	@echo '                   TESTS="fork stale" for some; FULL=1 for every case, ten times as'
	@echo '                   many rounds of races, and ten minutes of stress on each)'
	@echo '  make oracle      random operations against a model, in a VM'
	@echo '                   (OPS=1000000, to the end of a script, 0 for no end; SEED=1 KERNEL=6.12)'
	@echo '  make matrix      the table of ways to share and ways to touch (KERNEL=6.12)'
	@echo '  make fuzz        random system calls that look for code not yet reached, in a VM'
	@echo '                   (TIME=60 SEED=1 KERNEL=6.12-kasan; REPLAY=FILE to repeat some)'
	@echo '  make fuzz-delta  the same for the parser of delta files (TIME=30)'
	@echo '  make stress      all that attacks the module at once, in a VM'
	@echo '                   (TIME=60 SEED=1 KERNEL=6.12-kasan)'
	@echo '  make coverage    what of the module the selftests reach'
	@echo '                   (KERNEL=6.12-kasan TESTS="fork stale")'
	@echo '  make results     what the last runs of these came to, as tables'
	@echo '  make bench       set up, build, and measure against what the kernel has,'
	@echo '                   in VMs (KERNELS="6.1 6.12 7-bench" CASES="fork reset_cycle")'
	@echo '  make profile     which functions of the kernel take how much of a case of the'
	@echo '                   benchmark (CASE=first_write KERNEL=6.12)'
	@echo 'For the running kernel, whose headers must be installed:'
	@echo '  make             module/cowpool.ko, and the tools in build/tools'
	@echo '  make install     put them where the system finds them (PREFIX, DESTDIR)'
	@echo '  make -C tools install   the same without the module'
	@echo 'Parts:'
	@echo '  make module      the module (KDIR=... for another kernel)'
	@echo '  make tools       the command and the library'
	@echo '  make selftests   the test programs, in build/selftests'
	@echo '  make build/6.12/cowpool.ko   the module for one of the test kernels'
	@echo '  make clean       remove all that was built'
	@echo 'Arguments for the demo: make demo ARGS="--processes 8"'

module:
	@test -e $(KDIR)/Makefile || { \
		echo 'No kernel headers in $(KDIR): install those of your kernel, or set KDIR.'; \
		exit 1; }
	$(MAKE) -C $(KDIR) M=$(CURDIR)/module modules

tools:
	$(MAKE) -C tools O=$(CURDIR)/build/tools

selftests: build/kselftest tools
	$(MAKE) -C selftests O=$(CURDIR)/build/selftests

build/kselftest:
	@test -e $(CACHE)/kselftest || scripts/setup check
	mkdir -p build
	ln -sfn $(CACHE)/kselftest $@

# A module for one of the kernels that scripts/vm runs, built beside links to
# the source, so that several kernels can be built for at the same time. BTF is
# left out: it needs pahole and vmlinux, and nothing here reads it.
# $(1): the module
# $(2): its directory
# $(3): a build of its own, by the end of its directory's name
# $(4): what Kbuild is to do for that one
define module_rule
build/%$(3)/$(1).ko: $(CACHE)/kernels/%/release $($(1)_SOURCES)
	@mkdir -p $$(addprefix $$(@D)/,$(sort $(dir $($(1)_SOURCES))))
	@$(foreach source,$($(1)_SOURCES),ln -sf $(CURDIR)/$(source) $$(@D)/$(source);)
	flock $$(@D) $$(MAKE) -C $(CACHE)/kernels/$$*/build \
		M=$(CURDIR)/$$(@D)/$(2) KCFLAGS=-Werror \
		CONFIG_DEBUG_INFO_BTF_MODULES= $(4) modules
	@cp $$(@D)/$(2)/$(1).ko $$@
endef

$(eval $(call module_rule,cowpool,module))
# These two tell which code ran: each task of itself, and the module of all.
# The second one without what UBSAN adds, which would count as branches.
$(eval $(call module_rule,cowpool,module,-kcov,KCOV_INSTRUMENT=y))
$(eval $(call module_rule,cowpool,module,-gcov,GCOV_PROFILE=y UBSAN_SANITIZE=n))
# What makes functions wait, for the test of that name
$(eval $(call module_rule,delay,selftests/delay))

$(CACHE)/kernels/%/release:
	scripts/kernels $*

install: all
	$(MAKE) -C $(KDIR) M=$(CURDIR)/module \
		INSTALL_MOD_PATH=$(DESTDIR) modules_install
	$(MAKE) -C tools O=$(CURDIR)/build/tools install

demo:
	@scripts/setup demo
	@$(MAKE) --no-print-directory -s tools build/6.12/cowpool.ko
	@scripts/vm -- sh -c 'cowpool demo "$$@" && \
		printf "\n/sys/kernel/debug/cowpool/stats (with the copies that SAVED measured):\n" && \
		cat /sys/kernel/debug/cowpool/stats' demo $(ARGS)

check:
	@scripts/setup check
	@scripts/check

# Bad accesses and leaks, the same on the newest kernel, and data races
DEBUG_KERNELS := 6.12-kasan 7-kasan 6.12-kcsan

check-debug:
	@scripts/setup debug
	@$(if $(FULL),COWPOOL_TIMEOUT_SCALE=60 COWPOOL_STRESS_TIME=600) \
		COWPOOL_ROUNDS=$${COWPOOL_ROUNDS:-$(if $(FULL),2,0.2)} TESTS='$(TESTS)' \
		scripts/check $(or $(KERNELS),$(DEBUG_KERNELS))

OPS ?= 1000000
SEED ?= 1
KERNEL ?= 6.12

oracle:
	@scripts/oracle -k $(KERNEL) -n $(OPS) -s $(SEED)

matrix:
	@$(MAKE) --no-print-directory -s selftests
	@scripts/vm -k $(KERNEL) -- matrix --table

# For kernels that check themselves, and count what code is reached
fuzz coverage stress: KERNEL = 6.12-kasan

fuzz:
	@scripts/fuzz -k $(KERNEL) -t $(or $(TIME),60) -s $(SEED) \
		$(if $(REPLAY),-r $(REPLAY) -n $(or $(TIMES),1))

fuzz-delta:
	@scripts/fuzz-delta -t $(or $(TIME),30)

stress:
	@scripts/stress -k $(KERNEL) -t $(or $(TIME),60) -s $(SEED)

coverage:
	@scripts/coverage -k $(KERNEL) $(TESTS)

results:
	@scripts/results

bench:
	@scripts/bench -k '$(KERNELS)' $(CASES)

profile:
	@scripts/profile -k $(KERNEL) $(CASE)

clean:
	rm -rf build
	@if test -e $(KDIR)/Makefile; then \
		$(MAKE) -C $(KDIR) M=$(CURDIR)/module clean; fi

.PHONY: all help module tools selftests install demo check check-debug oracle matrix \
	fuzz fuzz-delta stress coverage results bench profile clean
# make would take them for intermediate files
.PRECIOUS: $(CACHE)/kernels/%/release
