# Weft: one Makefile. `make help` lists the targets; each variant builds in its own folder build/VARIANT.

# ---- settings (override on the command line) --------------------------------------------------------------------
VARIANT ?= release#      release, debug, asan, ubsan, tsan, fuzz
CC      ?= cc
CXX     ?= c++
ARCH    ?= native#       -march for the cpu back end's files (x86-64-v3 for binaries that travel)
PREFIX  ?= /usr/local
NVCC    ?= nvcc
BLAS    ?= openblas#     any pkg-config name that gives CBLAS
WERROR  ?= #             set to 1: warnings are errors (checks do)
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
CLANG_FORMAT ?= clang-format
# pkg-config's name of the MPI for libweft-mpi.so: the one that is installed; MPI= builds none
ifeq ($(origin MPI),undefined)
MPI     := $(shell for p in mpi ompi mpich; do pkg-config --exists $$p 2>/dev/null && echo $$p && break; done)
endif

VARIANTS := release debug asan ubsan tsan fuzz
ifeq ($(filter $(VARIANT),$(VARIANTS)),)
$(error VARIANT is '$(VARIANT)', expected one of: $(VARIANTS))
endif

# Debian and Ubuntu packages a build needs, and the names under which pkg-config must then know them.
# libprotobuf-dev: libsentencepiece-dev 0.2 names protobuf-lite in its .pc file without depending on it, and
# pkg-config follows private requirements.
DEPS = g++ pkg-config libavformat-dev libavcodec-dev libavutil-dev libswscale-dev liblmdb-dev libjansson-dev \
       libyaml-dev libopenblas-dev libsentencepiece-dev libprotobuf-dev libutf8proc-dev libpcre2-dev libxxhash-dev \
       libssl-dev libzip-dev libcmocka-dev
DEPS_FUZZ = clang libomp-dev
PKGS = libavformat libavcodec libavutil libswscale lmdb jansson yaml-0.1 $(BLAS) sentencepiece libutf8proc libpcre2-8 \
       libxxhash libcrypto libzip
FFMPEG_LEAST = 5.1
AVCODEC_LEAST = 59.37.100#  libavcodec of that FFmpeg

# ---- what to build ----------------------------------------------------------------------------------------------
B        := build/$(VARIANT)
PROGRAMS := weft-prep weft-cache weft-train weft-infer
ROOMS    := prep cache train infer
MPI_C    := common/ranks/mpi.c#  libweft-mpi.so alone is linked with MPI
COMMON_C := $(filter-out $(MPI_C),$(wildcard common/*/*.c common/*/*/*.c))
COMMON_X := $(wildcard common/*/*.cc)
SIM_CU   := $(wildcard common/ops/cuda/*.cu)
SIM_X    := $(wildcard common/ops/cuda/sim/*.cc)
ROOM_C   := $(filter-out %/main.c,$(foreach r,$(ROOMS),$(wildcard $(r)/*.c $(r)/*/*.c)))
MPI_LIB  := $(if $(MPI),$(B)/libweft-mpi.so)
EMBED    := $(sort $(wildcard schemas/*.json common/presets/*.json))
TEST_C   := $(wildcard tests/unit/*/*.c tests/ops/test_*.c tests/golden/*.c tests/oom/*.c)
FUZZ_C   := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_C  := $(wildcard tests/bench/bench_*.c)
TOOL_C   := $(wildcard tests/demo/*.c tests/tools/*.c)
CUDA_TOOL_C := $(wildcard tests/cuda/main_*.c)

LIB      := $(B)/libweft.a
LIB_O    := $(patsubst %.c,$(B)/%.o,$(COMMON_C) $(ROOM_C)) $(patsubst %.cc,$(B)/%.o,$(COMMON_X)) \
            $(B)/embed.o $(B)/embed_table.o \
            $(patsubst %.cu,$(B)/%.o,$(SIM_CU)) $(patsubst %.cc,$(B)/%.o,$(SIM_X))
BINS     := $(patsubst %,$(B)/%,$(foreach p,$(PROGRAMS),$(if $(wildcard $(p:weft-%=%)/main.c),$(p))))
TESTS    := $(patsubst %.c,$(B)/%,$(TEST_C))
FUZZERS  := $(patsubst %.c,$(B)/%,$(FUZZ_C))
BENCHES  := $(patsubst %.c,$(B)/%,$(BENCH_C))
TOOLS    := $(patsubst %.c,$(B)/%,$(TOOL_C))
CUDA_TOOLS := $(patsubst %.c,$(B)/%,$(CUDA_TOOL_C))

# Code of single architectures, for the report of what the kernels became; the same in every variant.
HOPPER_CU := $(filter %_90.cu,$(SIM_CU))
cubins    = $(foreach a,$(1),$(patsubst common/ops/cuda/%.cu,build/cubin/sm_$(a)/%.cubin,\
                $(filter-out $(if $(filter 80,$(a)),$(HOPPER_CU)),$(SIM_CU))))
cubins_90a = $(patsubst common/ops/cuda/%.cu,build/cubin/sm_90/%.cubin,$(HOPPER_CU))
cubin_args = $(foreach c,$(call cubins,$(1)),$(patsubst build/cubin/%/,%,$(dir $(c))) $(c) $(c:.cubin=.txt))

# ---- flags ------------------------------------------------------------------------------------------------------
WARN     := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes $(if $(WERROR),-Werror)
WARNXX   := -Wall -Wextra -Wshadow $(if $(WERROR),-Werror)
# One question a package: what one of them lacks must not take the others' flags away ('make found' names it).
uniq      = $(if $(1),$(firstword $(1)) $(call uniq,$(filter-out $(firstword $(1)),$(1))))
PKG_INC  := $(foreach p,$(PKGS),$(shell pkg-config --cflags $(p) 2>/dev/null))
PKG_INC  := $(if $(filter -isystem,$(PKG_INC)),$(PKG_INC),$(call uniq,$(PKG_INC)))
PKG_LIB  := $(foreach p,$(PKGS),$(shell pkg-config --libs $(p) 2>/dev/null))
OPT      := -O2 -g1#  line numbers; `make VARIANT=debug` knows variables too
SAN      :=
SAN_XX   := -fno-sanitize=vptr
OPENMP   := -fopenmp
ifeq ($(VARIANT),debug)
OPT      := -O0 -g
else ifeq ($(VARIANT),asan)
SAN      := -fsanitize=address -fno-omit-frame-pointer -DWEFT_ARENA_SPLIT
else ifeq ($(VARIANT),ubsan)
SAN      := -fsanitize=undefined -fno-sanitize-recover=undefined -DWEFT_ARENA_SPLIT
else ifeq ($(VARIANT),tsan)
SAN      := -fsanitize=thread
OPENMP   := -Wno-unknown-pragmas#  OpenMP's runtime is not instrumented: loops run serially, our own threads are checked
else ifeq ($(VARIANT),fuzz)
CC       := clang
CXX      := clang++
SAN      := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -DWEFT_ARENA_SPLIT
FUZZ_LD  := -fsanitize=fuzzer
SAN_XX   := -fno-sanitize=vptr,function
endif
CPU_FLAGS := -O3 -march=$(ARCH) -ffp-contract=fast -fno-math-errno -fno-trapping-math
BASEFLAGS := -I. -Itests -I$(B) $(OPT) $(SAN) $(OPENMP) -D_GNU_SOURCE -ffp-contract=off $(PKG_INC)
CFLAGS_W  = -std=c11 $(WARN) $(BASEFLAGS) $(CFLAGS)
CXXFLAGS_W = -std=c++17 $(WARNXX) $(BASEFLAGS) $(if $(SAN),$(SAN_XX)) $(CXXFLAGS)#  these checks need the C++ linker
LDLIBS   := $(PKG_LIB) -lm -lpthread -ldl -lstdc++
LDFLAGS_W = $(SAN) $(OPENMP) $(LDFLAGS)
# What only tests link: gold, where it is installed, takes a third of the time over FFmpeg's 130 libraries.  (With
# clang's sanitizers it warns.)
GOLD     := $(if $(SAN),,$(if $(shell command -v ld.gold 2>/dev/null),-fuse-ld=gold))
LDFLAGS_T = $(GOLD) $(LDFLAGS_W)

.DEFAULT_GOAL := all
.PHONY: all bench bench-cuda bench-now bench-peers cache-kills corruptions check check-asan check-cuda check-cuda-now \
        check-now check-sim-full check-sim-full-now check-tsan check-ubsan clean cuda cuda-report \
        cuda-report-now demo demo-measure demo-now demo-quick deps deps-if-missing format format-check found fuzz fuzz-now help \
        install lib programs tests train-kills uninstall FORCE

help: ## this list
	@echo "Targets (times on two cores; later builds compile only what changed):"
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' Makefile
	@echo "Settings, as in 'make check VARIANT=asan': VARIANT ($(VARIANTS)), CC, CXX, CFLAGS," \
	    "ARCH, BLAS, PREFIX, DESTDIR, WERROR, JOBS, MPI, DEVICE (demo)."

# Parallel jobs, unless the caller has said how many.  The + is for make, which sees no $(MAKE) in a line that
# says $(again): without it the caller's -jN is refused ("jobserver unavailable") and one job runs.  Two goals
# that say it follow each other ('make -j2 demo check'): side by side they would write the same files.
again = @+$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))
AGAIN := all check% corruptions cache-kills train-kills fuzz bench% cuda cuda-report demo% install
ifneq ($(filter $(AGAIN),$(filter-out %-now,$(MAKECMDGOALS))),)
.NOTPARALLEL:
endif

all: found ## build the four programs into build/release (2 minutes)
	$(again) programs

programs: $(BINS) $(MPI_LIB)
lib: $(LIB)
tests: $(TESTS) $(FUZZERS) $(TOOLS) $(BINS) $(MPI_LIB) $(CUDA_TOOLS) \
    $(if $(shell command -v $(NVCC) 2>/dev/null),$(call cubins,80) $(cubins_90a))

NVCC_RELEASE = $(shell nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
found:
	@sh tests/deps.sh check "$(PKGS)"
	@pkg-config --exists "libavcodec >= $(AVCODEC_LEAST)" || { \
	    echo "make: FFmpeg $(FFMPEG_LEAST) or later is needed (libavcodec $(AVCODEC_LEAST))," \
	    "found libavcodec $$(pkg-config --modversion libavcodec)" >&2; exit 1; }
	@echo "variant $(VARIANT) · $(shell $(CC) -dumpfullversion -dumpversion 2>/dev/null | head -1) $(CC)" \
	      "· BLAS $(BLAS) $(shell pkg-config --modversion $(BLAS) 2>/dev/null)" \
	      "· FFmpeg libavcodec $(shell pkg-config --modversion libavcodec 2>/dev/null)" \
	      "· OpenMP $(if $(filter -fopenmp,$(OPENMP)),yes,no)" \
	      "· CUDA compiler $(if $(shell command -v nvcc 2>/dev/null),$(NVCC_RELEASE),none)" \
	      "· MPI $(if $(MPI),$(MPI) $(shell pkg-config --modversion $(MPI)),none)"

# ---- rules ------------------------------------------------------------------------------------------------------
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_W) -MMD -MP -c $< -o $@

# Every pixel of every clip, in whole numbers: worth the vectoriser.
$(addprefix $(B)/,prep/picture/quality.o prep/picture/visible.o common/media/video_convert.o \
    common/media/video_writer.o): CFLAGS_W += -O3
# Sums over every pixel in the order that the source says: the same bits with any vectors.
$(B)/common/metrics/%.o: CFLAGS_W += -O3

# The cpu back end: this machine's vector instructions; contraction allowed, -ffast-math not.
$(B)/common/ops/cpu/%.o: common/ops/cpu/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_W) $(CPU_FLAGS) -MMD -MP -c $< -o $@

$(B)/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS_W) -MMD -MP -c $< -o $@

# The CUDA sources for `--device sim`: the host compiler, executed thread by thread (common/ops/cuda/port.h).
$(B)/common/ops/cuda/%.o: common/ops/cuda/%.cu
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS_W) -Wno-unknown-pragmas -DWEFT_SIM -x c++ -MMD -MP -c $< -o $@
$(B)/tests/%.o: tests/%.cu
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS_W) -Wno-unknown-pragmas -DWEFT_SIM -x c++ -MMD -MP -c $< -o $@
# The simulator itself is never instrumented by the thread sanitizer: it tells it about fibers.  Nor may its
# loops become calls of memset, which the sanitizer would take for the fibers' own.
$(B)/common/ops/cuda/sim/%.o: common/ops/cuda/sim/%.cc
	@mkdir -p $(@D)
	$(CXX) $(filter-out -fsanitize=thread,$(CXXFLAGS_W)) -DWEFT_SIM -O3 -march=$(ARCH) \
	    $(if $(findstring clang,$(CXX)),-fno-builtin,-fno-tree-loop-distribute-patterns) -MMD -MP -c $< -o $@

# The CUDA back end: a shared object that programs open at run time.  sm_80 and sm_90, and PTX for what comes after.
CUDA_ARCH := -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 \
             -gencode arch=compute_90,code=compute_90
# Files *_90.cu hold warpgroup products, which exist on sm_90a alone; the host code calls them on compute
# capability 9.0.
$(B)/cuda/%_90.o: CUDA_ARCH := -gencode arch=compute_90a,code=sm_90a
CUDA_O   := $(patsubst %.cu,$(B)/cuda/%.o,$(SIM_CU))
CUDA_C_O := $(patsubst %,$(B)/cuda/common/%.o,base/err ops/tensor)
CUDA_LIB  = $(abspath $(dir $(shell command -v $(NVCC)))../lib64)
$(B)/cuda/%.o: %.cu
	@mkdir -p $(@D)
	$(NVCC) -std=c++17 -O3 -lineinfo $(CUDA_ARCH) -I. -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-D_GNU_SOURCE \
	    -MMD -MP -c $< -o $@
$(B)/cuda/%.o: %.c
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -I. -O2 -fPIC -fvisibility=hidden -D_GNU_SOURCE -MMD -MP -c $< -o $@
$(B)/libweft-cuda.so: $(CUDA_O) $(CUDA_C_O)
	$(NVCC) -shared -cudart static $^ -o $@ -L$(CUDA_LIB) -lcublasLt -ldl -Xlinker -rpath,$(CUDA_LIB) -Xlinker -Bsymbolic \
	    -Xlinker --no-undefined -Xlinker --exclude-libs,ALL

# Several processes (MPI): a shared object too.  With its own copies of the few functions it needs, and none
# of the sanitizers' flags.
MPI_O := $(patsubst %.c,$(B)/pic/%.o,$(MPI_C) common/base/err.c common/ops/tensor.c)
$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -I. -O2 -g -fPIC -fvisibility=hidden -D_GNU_SOURCE \
	    $(if $(findstring ranks/mpi,$<),$(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(MPI)))) \
	    -MMD -MP -c $< -o $@
$(B)/libweft-mpi.so: $(MPI_O)
	$(CC) -shared $^ -o $@ $(shell pkg-config --libs $(MPI))
$(B)/pic/mpi: FORCE#  which one it is built for
	@mkdir -p $(@D)
	@echo '$(MPI)' >$@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/pic/common/ranks/mpi.o: $(B)/pic/mpi

# Schemas and presets, compiled in as they are.
$(B)/embed.S: $(EMBED) Makefile
	@mkdir -p $(@D)
	@{ echo '.section .rodata'; i=0; for f in $(EMBED); do \
	   printf '.global weft_embed_%d\nweft_embed_%d:\n.incbin "%s"\n.byte 0\n' $$i $$i $$f; i=$$((i+1)); done; \
	   echo '.section .note.GNU-stack,"",@progbits'; } > $@
$(B)/embed_table.c: $(EMBED) Makefile
	@mkdir -p $(@D)
	@{ i=0; for f in $(EMBED); do echo "extern const char weft_embed_$$i[];"; i=$$((i+1)); done; \
	   echo 'struct Embedded { const char *path, *text; };'; echo 'extern const struct Embedded weft_embedded[];'; \
	   echo 'const struct Embedded weft_embedded[] = {'; i=0; \
	   for f in $(EMBED); do echo "    {\"$$f\", weft_embed_$$i},"; i=$$((i+1)); done; echo '    {0, 0}};'; } > $@
$(B)/embed.o: $(B)/embed.S
	$(CC) -c $< -o $@
$(B)/embed_table.o: $(B)/embed_table.c
	$(CC) -c $< -o $@

# The flags that decide the cpu back end's bits (no paths), for --version, run.json and checkpoints
# (common/base/build.h).  The file is replaced only when they change, and then the cpu back end is compiled
# again.
NUMERIC_FLAGS = $(foreach f,$(filter -O% -m% -f%,$(OPT) $(SAN) $(OPENMP) $(CFLAGS) $(CPU_FLAGS)),\
                $(if $(findstring /,$(f)),,$(f)))
$(B)/common/base/build_flags.h: FORCE
	@mkdir -p $(@D)
	@native=$$($(CC) -march=$(ARCH) -### -x c -c /dev/null -o /dev/null 2>&1 | tr ' ' '\n' | \
	    sed -n 's/^"\?-march=\([a-z0-9_-]*\)"\?$$/\1/p; /"-target-cpu"/{n;s/"//gp}' | head -1); \
	 { echo '#define WEFT_BUILD_FLAGS "$(strip $(NUMERIC_FLAGS))$(if $(filter native,$(ARCH)), (native: '"$$native"'))"'; \
	   echo '#define WEFT_BUILD_BLAS "$(strip $(BLAS)) $(shell pkg-config --modversion $(BLAS) 2>/dev/null)"'; } >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/common/base/build.o $(patsubst %.c,$(B)/%.o,$(wildcard common/ops/cpu/*.c)): $(B)/common/base/build_flags.h
FORCE:

$(LIB): $(LIB_O)
	@rm -f $@
	ar qcs $@ $^

$(BINS): $(B)/weft-%: $(B)/%/main.o $(LIB)
	$(CC) $(LDFLAGS_W) $^ -o $@ $(LDLIBS)

$(TESTS): $(B)/tests/%: $(B)/tests/%.o $(B)/tests/check.o $(LIB)
	$(CC) $(LDFLAGS_T) $(filter %.o,$^) $(LIB) -o $@ $(LDLIBS) -lcmocka
$(filter $(B)/tests/ops/%,$(TESTS)): $(B)/tests/ops/harness.o $(B)/tests/ops/naive.o

$(B)/tests/ops/test_sim: $(B)/tests/ops/sim_kernels.o

# A fuzz target links libFuzzer in the fuzz variant; elsewhere a main that runs it over its corpus, as an ordinary test.
$(FUZZERS): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(if $(FUZZ_LD),,$(B)/tests/fuzz/corpus_main.o) $(LIB)
	$(CC) $(LDFLAGS_T) $(FUZZ_LD) $^ -o $@ $(LDLIBS)

$(B)/tests/tools/video_corpus: LDLIBS += -lcmocka
$(BENCHES) $(TOOLS): $(B)/%: $(B)/%.o $(LIB)
	$(CC) $(LDFLAGS_T) $(filter %.o,$^) $(LIB) -o $@ $(LDLIBS)
$(filter $(B)/tests/demo/%,$(TOOLS)): $(patsubst %.c,$(B)/%.o,$(wildcard tests/demo/draw/*.c))

$(CUDA_TOOLS): $(B)/%: $(B)/%.o $(patsubst %.c,$(B)/%.o,$(filter-out $(CUDA_TOOL_C),$(wildcard tests/cuda/*.c))) $(LIB)
	$(CC) $(LDFLAGS_T) $^ -o $@ $(LDLIBS)

define CUBIN_RULE
build/cubin/sm_$(1)/%.cubin: common/ops/cuda/%.cu $(wildcard common/ops/cuda/*.h common/ops/*.h)
	@mkdir -p $$(@D)
	$$(NVCC) -std=c++17 -O3 -I. -cubin -arch=sm_$(1)$$(if $$(filter %_90,$$*),a) -Xptxas -v -o $$@ $$< \
	    2>$$(@:.cubin=.txt) || { cat $$(@:.cubin=.txt) >&2; rm -f $$@; exit 1; }
endef
$(foreach a,80 90,$(eval $(call CUBIN_RULE,$(a))))

.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- dependencies -----------------------------------------------------------------------------------------------
deps: ## install what a build needs (Debian, Ubuntu; 110 MB to download), or print it
	@sh tests/deps.sh install "$(PKGS) cmocka" $(DEPS)
deps-if-missing:
	@sh tests/deps.sh missing "$(PKGS) cmocka" $(DEPS)

# ---- checks -----------------------------------------------------------------------------------------------------
check: deps-if-missing ## build and run every test (7 to 11 minutes, 2 of them the build)
	$(again) check-now
check-now: found tests
	@sh tests/run.sh $(B) $(wildcard tests/cli/test_*.sh) $(TESTS) $(FUZZERS) # the long ones first
check-asan: deps-if-missing ## the same under AddressSanitizer (45 minutes)
	$(again) VARIANT=asan check-now
check-ubsan: deps-if-missing ## the same under UndefinedBehaviorSanitizer (30 minutes)
	$(again) VARIANT=ubsan check-now
check-tsan: deps-if-missing ## the same under ThreadSanitizer: loops serial, our own threads checked (45 minutes)
	$(again) VARIANT=tsan check-now
check-sim-full: deps-if-missing ## operation tests on the simulated GPU, all inputs under all four schedules
	@WEFT_SIM_FULL=1 $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS)) check-sim-full-now
check-sim-full-now: found $(filter $(B)/tests/ops/%,$(TESTS))
	@sh tests/run.sh $(B) $(filter $(B)/tests/ops/%,$(TESTS))
corruptions: deps-if-missing ## 10,000 seeded corruptions of a small cache (5 minutes; check tries 400)
	$(again) $(B)/tests/unit/cache/test_corruptions
	WEFT_CORRUPTIONS=10000 $(B)/tests/unit/cache/test_corruptions
cache-kills: deps-if-missing ## kill -9 of four commands of weft-cache at 50 moments each (10 minutes; check: 3)
	$(again) programs $(TOOLS)
	WEFT_KILLS=50 WEFT_BUILD=$(B) sh tests/cli/test_cache_kill.sh
train-kills: deps-if-missing ## kill -9 of five kinds of training at 50 moments each (15 minutes; check: 2)
	$(again) programs $(TOOLS)
	WEFT_KILLS=50 WEFT_BUILD=$(B) sh tests/cli/test_train_kill.sh
fuzz: deps-if-missing ## each fuzz target for SECONDS (60) under libFuzzer with sanitizers; needs clang
	@sh tests/deps.sh missing "" $(DEPS_FUZZ)
	$(again) VARIANT=fuzz fuzz-now
fuzz-now: $(FUZZERS)
	@sh tests/fuzz/run.sh $(B) $(or $(SECONDS),60) $(FUZZERS)
bench: deps-if-missing ## time the cpu back end against BLAS, and memory of training (10 minutes, 4 GB)
	$(again) bench-now
bench-peers: deps-if-missing ## the same work by PyTorch and others, in turns (1 hour; PY=python with torch and diffusers)
	@[ "$(PY)" ] || { echo "make: PY=.../python names the interpreter that has torch and diffusers" >&2; exit 2; }
	$(again) programs $(TOOLS) $(B)/tests/bench/bench_peers
	WEFT_BUILD=$(B) $(PY) tests/bench/peers.py
bench-now: found $(BENCHES)
	@for b in $(filter-out %/bench_peers,$(BENCHES)); do $$b || exit 1; done

# ---- format -----------------------------------------------------------------------------------------------------
FORMATTED = $(sort $(shell find common $(ROOMS) tests -name '*.[ch]' \
                  -o -name '*.cc' -o -name '*.cu'))
format: ## lay out all C as .clang-format says (needs clang-format 14)
	@sh tests/format.sh write $(CLANG_FORMAT) $(FORMATTED)
format-check: ## name the files that 'make format' would change (10 seconds; check does it too)
	@sh tests/format.sh check $(CLANG_FORMAT) $(FORMATTED) || [ $$? = 77 ]

# ---- the GPU ----------------------------------------------------------------------------------------------------
cuda: ## build/release/libweft-cuda.so for --device cuda (needs nvcc; 5 minutes)
	@command -v $(NVCC) >/dev/null || { \
	    echo "make: $(NVCC) not found: building --device cuda needs the CUDA Toolkit" >&2; exit 1; }
	$(again) $(B)/libweft-cuda.so

check-cuda: deps-if-missing ## the operation tests on this machine's GPU; counted as skipped where there is none
	$(again) check-cuda-now
check-cuda-now: found programs $(CUDA_TOOLS) $(filter $(B)/tests/ops/%,$(TESTS)) \
    $(if $(shell command -v $(NVCC) 2>/dev/null),$(B)/libweft-cuda.so)
	@sh tests/run.sh $(B) tests/cli/test_cuda.sh
bench-cuda: deps-if-missing ## time every kernel and whole jobs at 2B size on this GPU (GPU=H100: against its limits)
	$(again) cuda $(B)/tests/cuda/main_bench
	LD_LIBRARY_PATH=$(abspath $(B)) $(B)/tests/cuda/main_bench --device cuda --gpu $(or $(GPU),A100)

cuda-report: deps-if-missing ## what nvcc makes of each kernel, and predicted times: writes tests/bench/cuda-*.{md,json}
	$(again) cuda-report-now
cuda-report-now: $(CUDA_TOOLS) $(call cubins,80 90)
	$(B)/tests/cuda/main_report --compiler "$$($(NVCC) --version | sed -n 's/.*\(release [0-9.]*\).*/nvcc \1/p')" \
	    --json tests/bench/cuda-report.json $(call cubin_args,80 90) >tests/bench/cuda-report.md
	$(B)/tests/cuda/main_prediction >tests/bench/cuda-prediction.md

# ---- use --------------------------------------------------------------------------------------------------------
DEMO_TOOLS = $(filter $(B)/tests/demo/%,$(TOOLS))
demo: deps-if-missing ## clips -> cache -> training -> new videos, before and after (5 minutes; DEVICE=cuda or sim)
	$(again) demo-now
demo-quick: deps-if-missing ## the same with a few clips and steps (12 seconds after the build)
	$(again) demo-now DEMO=quick
demo-measure: deps-if-missing ## demo's model on 60 captions: figures for tests/bench/demo.md (1 minute more)
	$(again) demo-now DEMO=measure
demo-now: found programs $(DEMO_TOOLS)
	@sh tests/demo/demo.sh $(B) $(DEMO)

# Everything under PREFIX that install writes, and uninstall removes; DESTDIR stands before it, for packages.
INSTALL_BIN = $(DESTDIR)$(PREFIX)/bin
INSTALL_LIB = $(DESTDIR)$(PREFIX)/lib/weft
INSTALL_SCHEMAS = $(DESTDIR)$(PREFIX)/share/weft/schemas
INSTALL_MAN = $(DESTDIR)$(PREFIX)/share/man/man1
INSTALL_COMPLETION = $(DESTDIR)$(PREFIX)/share/bash-completion/completions

install: found ## build, then copy programs, schemas, manual pages and bash completion to PREFIX (/usr/local)
	$(again) programs
	install -d "$(INSTALL_BIN)" "$(INSTALL_SCHEMAS)" "$(INSTALL_MAN)" "$(INSTALL_COMPLETION)"
	install -s -m 755 $(BINS) "$(INSTALL_BIN)"
	install -m 644 $(wildcard schemas/*.json) "$(INSTALL_SCHEMAS)"
	for p in $(PROGRAMS); do \
	    $(B)/$$p --help-man >"$(INSTALL_MAN)/$$p.1" && \
	    $(B)/$$p --help-completion >"$(INSTALL_COMPLETION)/$$p" || exit 1; done
	$(if $(MPI_LIB),install -d "$(INSTALL_LIB)" && install -s -m 644 $(MPI_LIB) "$(INSTALL_LIB)")
	@if [ -f $(B)/libweft-cuda.so ]; then set -x; \
	    install -d "$(INSTALL_LIB)" && install -s -m 644 $(B)/libweft-cuda.so "$(INSTALL_LIB)"; \
	 else echo "libweft-cuda.so was not built ('make cuda' builds it): the installed programs run on the CPU"; fi

uninstall: ## remove what install copied (same PREFIX and DESTDIR)
	@for p in $(PROGRAMS); do rm -fv "$(INSTALL_BIN)/$$p" "$(INSTALL_MAN)/$$p.1" "$(INSTALL_COMPLETION)/$$p"; done
	@rm -rfv "$(INSTALL_LIB)" "$(DESTDIR)$(PREFIX)/share/weft"

clean: ## remove build/ and demo/
	rm -rf build demo
