# gptoss: `make demo` and `make check` do everything on a fresh Debian: install what is missing, build, run.
# `make` builds the programs into out/ (no packages are installed); `make deps` installs only.

PROGRAMS := gptoss-compile gptoss-exec gptoss-tok gptoss-mkmodel gptoss-check gptoss-lab
CC ?= gcc
CFLAGS ?= -O2 -g
# A write past a buffer ends the program; nothing that is called through can be overwritten.
HARDEN ?= -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fPIE
HARDEN_LINK ?= $(if $(HARDEN),-pie -Wl$(,)-z$(,)relro$(,)-z$(,)now)
override CFLAGS += $(HARDEN)
, := ,
WARN := -Wall -Wextra -Wpedantic -Wno-missing-field-initializers $(if $(WERROR),-Werror)
BASE := -std=gnu11 -I. -ffp-contract=off -pthread -MMD -MP -D_GNU_SOURCE
LUA_CFLAGS = $(shell pkg-config --cflags lua5.4)
LUA_LIBS = $(shell pkg-config --libs lua5.4)
# Line editing of -m chat; without libedit-dev it reads plain lines.
EDIT := $(shell pkg-config --exists libedit 2>/dev/null && echo -ledit)
O := out/obj

obj = $(patsubst %.c,$(O)/%.o,$(1))
ROOM = $(call obj,$(wildcard $(1)/*.c))
IR := $(call ROOM,ir)
RTC := $(call ROOM,rtc)
MODEL := $(call ROOM,model)
TEXT := $(call ROOM,text)
PLAN := $(call ROOM,plan)
COMPILER := $(call ROOM,compiler)
EMU := $(call ROOM,runtime/emu)
EMU_NEEDS := $(call obj,ir/base.c ir/library.c ir/map.c ir/socket.c)
LAB := $(call ROOM,lab)
EXEC := $(foreach room,runtime runtime/device runtime/mode,$(call ROOM,$(room)))

.PHONY: all deps demo check check-all sanitize sanitize-address sanitize-thread coverage lint fuzz faults rebase clean man install uninstall tests
all: $(PROGRAMS:%=out/%)

$(PROGRAMS:%=out/%): out/gptoss-%: $(O)/programs/%.o
out/gptoss-compile: $(COMPILER) $(PLAN) $(MODEL) $(RTC) $(IR)
out/gptoss-exec: $(EXEC) $(EMU) $(PLAN) $(MODEL) $(TEXT) $(RTC) $(IR)
out/gptoss-tok: $(TEXT) $(IR)
out/gptoss-mkmodel: $(MODEL) $(IR)
out/gptoss-check: $(IR)
out/gptoss-lab: $(LAB) $(PLAN) $(MODEL) $(IR)

out/gptoss-compile: LIBS = $(LUA_LIBS) -ljansson -lzstd -lxxhash -lm -ldl
out/gptoss-exec: LIBS = -ljansson -lzstd -lxxhash -lpcre2-8 $(EDIT) -lm -ldl
out/gptoss-tok: LIBS = -ljansson -lpcre2-8 -lxxhash -lm -ldl
out/gptoss-mkmodel: LIBS = -ljansson -lxxhash -lm -ldl
out/gptoss-check: LIBS = -ljansson -lxxhash -lm -ldl
out/gptoss-lab: LIBS = -ljansson -lzstd -lxxhash -lm -ldl

$(PROGRAMS:%=out/%):
	$(CC) $(CFLAGS) $(HARDEN_LINK) -pthread $(LDFLAGS) -o $@ $^ $(LIBS)

$(O)/compiler/%.o: EXTRA = $(LUA_CFLAGS)
$(O)/programs/compile.o: EXTRA = $(LUA_CFLAGS)
# What executes instructions has arrays of 64 lanes, and lane numbers: a guard in each would cost 4% of the emulator's speed.
EMU_EXTRA = -O3 -fno-math-errno -fno-trapping-math $(if $(filter lanes_% vector lds vmem mfma scalar launch,$(*F)),-fno-stack-protector)
# The emulator, and what it needs, is in gptoss-exec and in the tests' HIP runtime: compiled once, for both.
SHARED_TOO = -fPIC -fvisibility=hidden
$(O)/runtime/emu/%.o: EXTRA = $(EMU_EXTRA) $(SHARED_TOO)
$(EMU_NEEDS): EXTRA = $(SHARED_TOO)
$(O)/ir/ref.o: EXTRA = -O3
$(O)/runtime/mode/line.o: EXTRA = $(if $(EDIT),-DHAVE_LIBEDIT)
$(O)/runtime/mode/line.o: $(O)/edit$(EDIT)
$(O)/edit%: # libedit came or went: line.c anew
	@mkdir -p $(O) && rm -f $(O)/edit* && touch $@
$(O)/edit:
	@mkdir -p $(O) && rm -f $(O)/edit* && touch $@

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN) $(CFLAGS) $(EXTRA) -c $< -o $@

deps:
	@tools/deps

# As many compilers as there are cores, where no -j says how many.
AT_ONCE = $(if $(findstring --jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

demo: deps
	@$(MAKE) --no-print-directory -s $(AT_ONCE) all
	@tools/demo

check: deps
	@$(MAKE) --no-print-directory -s $(AT_ONCE) all tests
	@tests/run

# Every call fails once (tests/faults; docs/security.md): hours on a small machine. EVERY=stacks: the first by each stack, minutes.
EVERY ?= 1
faults: all tests
	@tests/faults/run.sh $(EVERY) $(SCENARIO)

check-all: deps
	@$(MAKE) --no-print-directory -s $(AT_ONCE) all tests
	@tests/run --all

rebase: all tests
	@REBASE=1 tests/run

# Each tests/*/X.c is a program out/tests/X; it may use everything but the programs' mains.
TEST_SOURCES := $(filter-out tests/fuzz/% tests/faults/shim.c tests/gpus/kill_cuda.c,$(wildcard tests/*/*.c))
TEST_PROGRAMS := $(patsubst %.c,out/tests/%,$(notdir $(TEST_SOURCES)))
ALL_OBJECTS := $(LAB) $(COMPILER) $(EXEC) $(EMU) $(PLAN) $(MODEL) $(TEXT) $(RTC) $(IR)
tests: $(TEST_PROGRAMS)

vpath %.c $(sort $(dir $(TEST_SOURCES)))
$(filter-out out/tests/rtc_test,$(TEST_PROGRAMS)): out/tests/%: %.c out/liball.a
	@mkdir -p out/tests
	$(CC) $(BASE) $(WARN) $(CFLAGS) $(LUA_CFLAGS) -o $@ $< out/liball.a $(LUA_LIBS) -ljansson -lzstd -lxxhash -lpcre2-8 $(EDIT) -lm -ldl
# The JIT's tests need its hooks for crashes and time-outs: its sources once more, with them.
out/tests/rtc_test: tests/rtc/rtc_test.c $(wildcard rtc/*.c rtc/*.h) out/liball.a
	@mkdir -p out/tests
	$(CC) $(filter-out -MMD -MP,$(BASE)) $(WARN) $(CFLAGS) -DRTC_TEST -o $@ $(filter %.c,$^) out/liball.a -ljansson -lzstd -lxxhash -lm -ldl
out/liball.a: $(ALL_OBJECTS)
	@rm -f $@
	ar rcs $@ $^

# Fuzzers, tests/fuzz/fuzz_NAME.c: with driver.c for tests/fuzz; under clang's libFuzzer and sanitizers for `make fuzz SECONDS=60`.
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(filter-out %/fuzz_seed.c,$(wildcard tests/fuzz/fuzz_*.c)))
LIBS_ALL = $(LUA_LIBS) -ljansson -lzstd -lxxhash -lpcre2-8 $(EDIT) -lm -ldl
tests: $(FUZZERS:%=out/tests/fuzz_%) out/tests/fuzz_seed
out/tests/fuzz_seed: tests/fuzz/fuzz_seed.c tests/fuzz/fuzz.h out/liball.a
FUZZ_HEADERS := $(wildcard tests/fuzz/*.h)
$(FUZZERS:%=out/tests/fuzz_%): out/tests/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/driver.c $(FUZZ_HEADERS) out/liball.a
out/tests/fuzz_%:
	@mkdir -p out/tests
	$(CC) $(BASE) $(WARN) $(CFLAGS) $(LUA_CFLAGS) -o $@ $(filter %.c %.a,$^) $(LIBS_ALL)

CLANG ?= clang
SECONDS ?= 60
FUZZ_FLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
fuzz: $(FUZZERS:%=out/fuzz/bin/%) out/tests/fuzz_seed all
	@CLANG=$(CLANG) tests/fuzz/fuzz $(SECONDS) $(or $(FUZZER),$(FUZZERS))
$(FUZZERS:%=out/fuzz/bin/%): out/fuzz/bin/%: tests/fuzz/fuzz_%.c $(FUZZ_HEADERS) out/fuzz/liball.a
	@mkdir -p $(@D)
	$(CLANG) $(filter-out -MMD -MP,$(BASE)) $(WARN) $(FUZZ_FLAGS) -fsanitize=fuzzer $(LUA_CFLAGS) -o $@ $< out/fuzz/liball.a $(LIBS_ALL)
out/fuzz/liball.a: $(patsubst $(O)/%,out/fuzz/obj/%,$(ALL_OBJECTS))
	@rm -f $@
	ar rcs $@ $^
out/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) $(BASE) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(LUA_CFLAGS) $(EXTRA) -c $< -o $@
-include $(shell find out/fuzz/obj -name '*.d' 2>/dev/null)

# What makes calls fail, for tests/faults and tests/journal.
tests: out/tests/faults/shim.so
out/tests/faults/shim.so: tests/faults/shim.c
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(BASE)) $(WARN) -Wno-pedantic $(filter-out -D_FORTIFY_SOURCE=% -fPIE,$(CFLAGS)) -fno-builtin -fPIC -shared -o $@ $< -ldl

# Sanitizers, each in a tree of its own (tools/variant): `make sanitize`, or `make sanitize-thread SUITES="gpus hip"`.
SANITIZE_FLAGS := -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all
sanitize: sanitize-address sanitize-thread
sanitize-address:
	@tools/variant address "$(SANITIZE_FLAGS) -fsanitize=address,undefined" $(or $(SUITES),$(ADDRESS_SUITES))
sanitize-thread:
	@tools/variant thread "$(SANITIZE_FLAGS) -fsanitize=thread" $(or $(SUITES),$(THREAD_SUITES))
# Which lines ran in the suites: docs/testing.md has the last figures.
coverage:
	@find out/coverage -name '*.gcda' -delete 2>/dev/null; mkdir -p out/coverage; : >out/coverage/said; \
	TEST_PIN=1 COVERAGE_SAID=$(CURDIR)/out/coverage/said tools/variant coverage "-O1 -g --coverage -include tests/coverage.h" $(or $(SUITES),$(COVERAGE_SUITES)); code=$$?; \
	tools/coverage out/coverage out/coverage/said && exit $$code
# clang-tidy and gcc's analyzer; FILES="runtime/queue.c …": of these only. Minutes for all.
lint:
	@tools/lint $(FILES)
ADDRESS_SUITES := bad chat cli cuda emit emu exec formats fuse gpus hip host interface ir judge lua override plan ranks ref report rules sample stdout template text tok
THREAD_SUITES := emu exec gpus hip host ranks chat cuda
# Not those that send more numbers through the same lines: the emulator takes long, and longer yet where its threads share the counters (TEST_PIN).
COVERAGE_SUITES = $(filter-out attention eval faults golden house journal kernel model models oracle valgrind,$(patsubst tests/%/,%,$(wildcard tests/*/)))

# A HIP runtime without a GPU, for tests/hip: compiled against HIP's own headers where they are installed.
HIP_HEADERS := $(firstword $(wildcard /usr/include/hip/hip_runtime_api.h $(or $(ROCM_PATH),/opt/rocm)/include/hip/hip_runtime_api.h))
FAKEHIP_OBJECTS := $(EMU_NEEDS) $(EMU)
tests: $(if $(HIP_HEADERS),out/tests/fakehip/libamdhip64.so.5 out/tests/fakehip6/libamdhip64.so.6)
out/tests/fakehip/libamdhip64.so.5: $(O)/pic/tests/hip/fake/fakehip.o $(FAKEHIP_OBJECTS)
out/tests/fakehip6/libamdhip64.so.6: $(O)/pic/tests/hip/fake/fakehip6.o $(FAKEHIP_OBJECTS)
out/tests/fakehip/libamdhip64.so.5 out/tests/fakehip6/libamdhip64.so.6:
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -shared -pthread -Wl,-soname,$(@F) $(LDFLAGS) -o $@ $^ -lxxhash -lm -ldl
$(O)/pic/%.o: EXTRA = -isystem $(patsubst %/hip/hip_runtime_api.h,%,$(HIP_HEADERS))
$(O)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN) $(CFLAGS) $(EXTRA) -fPIC -c $< -o $@

# A CUDA driver without a GPU, for tests/cuda, where cuda.h is installed.
CUDA_HEADERS := $(dir $(firstword $(wildcard /usr/include/cuda.h $(or $(CUDA_HOME),/usr/local/cuda)/include/cuda.h /usr/local/cuda-*/include/cuda.h)))
tests: $(if $(CUDA_HEADERS),out/tests/fakecuda/libcuda.so.1)
out/tests/fakecuda/libcuda.so.1: tests/cuda/fake/fakecuda.c
	@mkdir -p $(@D)
	$(CC) $(BASE) $(WARN) $(CFLAGS) -isystem $(CUDA_HEADERS) -fPIC -shared -pthread -Wl,-soname,$(@F) -o $@ $<

# The real driver, but for one device that is lost half-way: tests/gpus on the fake one, bench/gpus_check.sh on GPUs.
tests: out/tests/killcuda/libcuda.so.1
out/tests/killcuda/libcuda.so.1: tests/gpus/kill_cuda.c runtime/device/cuda_fns.def
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(BASE)) $(WARN) $(CFLAGS) -fPIC -shared -o $@ $< -ldl

# Manuals: docs/man with the options that each program lists.
man: $(PROGRAMS:%=out/man/%.1)
out/man/%.1: docs/man/%.1 out/% tools/man-page
	@mkdir -p $(@D)
	tools/man-page out/$* $< >$@

PREFIX ?= /usr/local
BIN := $(DESTDIR)$(PREFIX)/bin
SHARE := $(DESTDIR)$(PREFIX)/share
COMPLETIONS := $(SHARE)/bash-completion/completions
# What an older version installed goes first: every rule that lies in lua/fusions is applied.
install: all man uninstall
	install -d -m 755 $(BIN) $(SHARE)/gptoss $(SHARE)/man/man1 $(COMPLETIONS)
	install -m 755 $(PROGRAMS:%=out/%) $(BIN)
	find -H lua templates graphs docs compiler/report.html -name man -prune -o -type f -exec install -D -m 644 {} $(SHARE)/gptoss/{} ';'
	find $(SHARE)/gptoss -type d -exec chmod 755 {} +
	install -m 644 $(PROGRAMS:%=out/man/%.1) $(SHARE)/man/man1
	install -m 644 tools/completion.bash $(COMPLETIONS)/gptoss-exec
	for p in $(filter-out gptoss-exec,$(PROGRAMS)); do ln -sf gptoss-exec $(COMPLETIONS)/$$p; done

uninstall:
	rm -f $(PROGRAMS:%=$(BIN)/%) $(PROGRAMS:%=$(SHARE)/man/man1/%.1) $(PROGRAMS:%=$(COMPLETIONS)/%)
	rm -rf $(SHARE)/gptoss

clean:
	rm -rf out

-include $(shell find $(O) -name '*.d' 2>/dev/null)
