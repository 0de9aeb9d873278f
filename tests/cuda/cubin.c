#include "tests/cuda/cubin.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/mem.h"

/* An instruction has 16 bytes; the low 12 bits name the operation and the form of its operands. */
enum {
    OP_HMMA = 0x23c,
    OP_HGMMA = 0x9f0,
    OP_HGMMA_REGISTERS = 0xdf0,
    OP_LDSM = 0x83b,
    OP_LDGSTS = 0xfae,
    OP_MUFU = 0x308,
    OP_LDL = 0x983,
    OP_STL = 0x387,
    OP_BRA = 0x947,
    OP_NOP = 0x918,
    INSTRUCTION = 16,
    MOST_BYTES = 64 << 20,
};

/* sm: 80, 90 */
typedef struct Elf {
    const uint8_t *data;
    int64_t size;
    const Elf64_Shdr *section;
    int64_t n;
    const char *names;
    int64_t names_size;
    int sm;
} Elf;

static int bad(Err *err, const char *path, const char *what)
{
    return err_set(err, ERR_FORMAT, "%s: %s", path, what);
}

/* Whether [at, at+n) lies in the file. */
static int inside(const Elf *e, uint64_t at, uint64_t n)
{
    return at <= (uint64_t)e->size && n <= (uint64_t)e->size - at;
}

static int elf_open(Elf *e, const char *path, const uint8_t *data, int64_t size, Err *err)
{
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)data;

    *e = (Elf){.data = data, .size = size};
    if (size < (int64_t)sizeof *h || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64)
        return bad(err, path, "not a 64-bit ELF file");
    if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff % 8 != 0 ||
        !inside(e, h->e_shoff, (uint64_t)h->e_shnum * sizeof(Elf64_Shdr)))
        return bad(err, path, "its section table lies outside the file");
    e->section = (const Elf64_Shdr *)(data + h->e_shoff);
    e->sm = h->e_flags >> 8 & 255;
    e->n = h->e_shnum;
    if (h->e_shstrndx >= e->n || !inside(e, e->section[h->e_shstrndx].sh_offset, e->section[h->e_shstrndx].sh_size))
        return bad(err, path, "it has no section names");
    e->names = (const char *)data + e->section[h->e_shstrndx].sh_offset;
    e->names_size = (int64_t)e->section[h->e_shstrndx].sh_size;
    if (e->names_size == 0 || e->names[e->names_size - 1] != 0)
        return bad(err, path, "its section names do not end");
    return 0;
}

static const char *section_name(const Elf *e, int64_t i)
{
    return (int64_t)e->section[i].sh_name < e->names_size ? e->names + e->section[i].sh_name : "";
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* Where a BRA at instruction i goes: bits 32..81, signed, in bytes from the next instruction; from
 * sm_90 on bits 34..81 and, below them, bits 16..23, in words of 4 bytes. */
static int64_t branch_target(const uint8_t *code, int64_t i, int sm)
{
    uint64_t low = word_at(code + i * INSTRUCTION), high = word_at(code + i * INSTRUCTION + 8);
    uint64_t bits = low >> 32 | (high & 0x3ffff) << 32;
    int64_t offset = (int64_t)(bits << 14) >> 14;

    if (sm >= 90)
        offset = (offset >> 2) * 1024 + (int64_t)(low >> 16 & 255) * 4;
    return i + 1 + offset / INSTRUCTION;
}

static LoopCounts count(const uint8_t *code, int64_t first, int64_t end)
{
    LoopCounts c = {0};

    for (int64_t i = first; i < end; i++) {
        uint64_t word = word_at(code + i * INSTRUCTION);
        int op = (int)(word & 0xfff), hgmma = op == OP_HGMMA || op == OP_HGMMA_REGISTERS;
        c.total += op != OP_NOP;
        c.hmma += op == OP_HMMA;
        c.hgmma += hgmma;
        c.hgmma_columns += hgmma ? 8 * (int64_t)((word >> 53 & 31) + 1) : 0;
        c.ldsm += op == OP_LDSM;
        c.ldgsts += op == OP_LDGSTS;
        c.mufu += op == OP_MUFU;
        c.ldl += op == OP_LDL;
        c.stl += op == OP_STL;
    }
    return c;
}

static void read_code(Kernel *k, const uint8_t *code, int64_t n, int sm)
{
    LoopCounts whole = count(code, 0, n);

    k->instructions = whole.total;
    k->ldl = whole.ldl;
    k->stl = whole.stl;
    k->loop = whole;
    for (int64_t i = 0, longest = 0; i < n; i++) {
        if ((word_at(code + i * INSTRUCTION) & 0xfff) != OP_BRA)
            continue;
        int64_t to = branch_target(code, i, sm);
        if (to < 0 || to >= i || i + 1 - to <= longest) /* a branch to itself is the padding at the end */
            continue;
        LoopCounts c = count(code, to, i + 1);
        if (!c.hmma && !c.hgmma)
            continue;
        longest = i + 1 - to;
        k->loop = c;
        k->has_loop = 1;
    }
}

/* The kernel's list of attributes: 04 05 SIZE x y z is the largest block. */
static void read_info(Kernel *k, const uint8_t *p, int64_t n)
{
    for (int64_t at = 0; at + 4 <= n;) {
        int64_t size = p[at] == 4 ? p[at + 2] | p[at + 3] << 8 : 0;
        if (at + 4 + size > n)
            return;
        if (p[at] == 4 && p[at + 1] == 5 && size == 12) {
            uint32_t d[3];
            memcpy(d, p + at + 4, sizeof d);
            k->threads = (int)(d[0] * d[1] * d[2]);
        }
        at += 4 + size;
    }
}

static int add_kernels(KernelList *out, const Elf *e, const char *path, Err *err)
{
    static const char text[] = ".text.", info[] = ".nv.info.";

    for (int64_t i = 0; i < e->n; i++) {
        const char *name = section_name(e, i);
        const Elf64_Shdr *s = &e->section[i];
        if (strncmp(name, text, sizeof text - 1) != 0)
            continue;
        if (!inside(e, s->sh_offset, s->sh_size) || s->sh_size % INSTRUCTION)
            return bad(err, path, "a kernel's code lies outside the file");
        Kernel *grown = mem_realloc(out->item, out->n + 1, sizeof *grown, err);
        if (!grown)
            return ERR_NOMEM;
        out->item = grown;
        Kernel *k = &grown[out->n++];
        memset(k, 0, sizeof *k);
        if (snprintf(k->name, sizeof k->name, "%s", name + sizeof text - 1) >= (int)sizeof k->name)
            return bad(err, path, "a kernel's name is too long");
        read_code(k, e->data + s->sh_offset, (int64_t)s->sh_size / INSTRUCTION, e->sm);
        for (int64_t j = 0; j < e->n; j++)
            if (strncmp(section_name(e, j), info, sizeof info - 1) == 0 &&
                strcmp(section_name(e, j) + sizeof info - 1, k->name) == 0 &&
                inside(e, e->section[j].sh_offset, e->section[j].sh_size))
                read_info(k, e->data + e->section[j].sh_offset, (int64_t)e->section[j].sh_size);
    }
    return 0;
}

int cubin_read(KernelList *out, const char *path, Err *err)
{
    char *data = NULL;
    int64_t size = 0;
    Elf e;
    int rc = file_read(path, MOST_BYTES, &data, &size, err);

    if (rc == 0)
        rc = elf_open(&e, path, (const uint8_t *)data, size, err);
    if (rc == 0)
        rc = add_kernels(out, &e, path, err);
    mem_free(data);
    return rc;
}

/* ---- ptxas -v -------------------------------------------------------------------------------- */

/* The number before `unit` in the line, or 0. */
static int number_before(const char *line, const char *unit)
{
    const char *at = strstr(line, unit);

    if (!at)
        return 0;
    while (at > line && at[-1] == ' ')
        at--;
    while (at > line && at[-1] >= '0' && at[-1] <= '9')
        at--;
    int n = 0;
    sscanf(at, "%d", &n);
    return n;
}

static Kernel *find(KernelList *l, int64_t first, const char *quoted)
{
    size_t n = strcspn(quoted, "'");

    for (int64_t i = first; i < l->n; i++)
        if (strlen(l->item[i].name) == n && memcmp(l->item[i].name, quoted, n) == 0)
            return &l->item[i];
    return NULL;
}

int cubin_ptxas(KernelList *out, int64_t first, const char *path, Err *err)
{
    static const char entry[] = "Compiling entry function '";
    char line[2048];
    Kernel *k = NULL;
    FILE *f = fopen(path, "r");

    if (!f)
        return err_set(err, ERR_IO, "%s cannot be read", path);
    while (fgets(line, sizeof line, f)) {
        const char *at = strstr(line, entry);
        if (strstr(line, "wgmma.mma_async instructions are serialized")) {
            fclose(f);
            return err_set(err, ERR_FORMAT, "%s: the compiler serialised wgmma: %.200s", path, line);
        }
        if (at)
            k = find(out, first, at + sizeof entry - 1);
        else if (k && strstr(line, "bytes stack frame")) {
            k->stack = number_before(line, "bytes stack frame");
            k->spill_stores = number_before(line, "bytes spill stores");
            k->spill_loads = number_before(line, "bytes spill loads");
        } else if (k && strstr(line, "registers")) {
            k->registers = number_before(line, "registers");
            k->shared = number_before(line, "bytes smem");
        }
    }
    fclose(f);
    for (int64_t i = first; i < out->n; i++)
        if (!out->item[i].registers)
            return err_set(err, ERR_FORMAT, "%s says nothing about %s", path, out->item[i].name);
    return 0;
}

void cubin_free(KernelList *l)
{
    mem_free(l->item);
    *l = (KernelList){0};
}
