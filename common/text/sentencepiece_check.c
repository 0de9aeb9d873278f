/* What is checked of a SentencePiece model before its library gets it (MODEL.md 5.2).
 * The library walks the double array of the character map and reads the replacement strings without
 * bounds; here every unit that a walk can reach is shown to stay inside. */
#include <string.h>
#include "common/text/sentencepiece_shim.h"

typedef struct Wire {
    const uint8_t *at, *end;
} Wire;
/* value: varint; bytes: length-delimited */
typedef struct Field {
    uint64_t number;
    int type;
    uint64_t value;
    Wire bytes;
} Field;

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };
enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3, MODEL_DENORMALIZER = 5 };
enum { PIECE_TEXT = 1, TRAINER_TYPE = 3, TYPE_UNIGRAM = 1, NORMALIZER_CHARSMAP = 2 };

static int bad(Err *err, const char *what)
{
    return err_set(err, ERR_FORMAT, "not a SentencePiece model: %s", what);
}

static int read_varint(Wire *w, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64 && w->at < w->end; shift += 7) {
        uint8_t b = *w->at++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80))
            return 1;
    }
    return 0;
}

/* 1 with a field, 0 at the end, negative on bad framing. */
static int next_field(Wire *w, Field *f, Err *err)
{
    uint64_t tag, size = 0;
    if (w->at == w->end)
        return 0;
    if (!read_varint(w, &tag))
        return bad(err, "a cut field");
    f->number = tag >> 3;
    f->type = (int)(tag & 7);
    if (f->type == WIRE_VARINT)
        return read_varint(w, &f->value) ? 1 : bad(err, "a cut number");
    if (f->type == WIRE_BYTES) {
        if (!read_varint(w, &size))
            return bad(err, "a cut length");
    } else if (f->type == WIRE_64 || f->type == WIRE_32) {
        size = f->type == WIRE_64 ? 8 : 4;
    } else {
        return bad(err, "an unknown wire type");
    }
    if (size > (uint64_t)(w->end - w->at))
        return bad(err, "a field longer than the file");
    f->bytes = (Wire){w->at, w->at + size};
    w->at += size;
    return 1;
}

static uint32_t unit_at(const uint8_t *units, uint32_t i)
{
    uint32_t u;
    memcpy(&u, units + 4 * (size_t)i, 4);
    return u;
}

/* A walk stands on unit i, goes to i ^ offset(i), and from there to that position ^ any byte whose
 * label matches.  Units with the top bit set are values: no label matches them, so they are never
 * stood on. */
static int check_charsmap(Wire map, Err *err)
{
    uint32_t bytes;
    if (map.at == map.end)
        return 0; /* no map: identity */
    if (map.end - map.at < 4)
        return bad(err, "character map cut short");
    memcpy(&bytes, map.at, 4);
    const uint8_t *units = map.at + 4;
    if (bytes == 0 || bytes % 1024 || bytes > (uint64_t)(map.end - units))
        return bad(err, "character map with a wrong trie size");
    uint32_t n = bytes / 4; /* whole blocks of 256: pos ^ byte stays in pos's block */
    const uint8_t *strings = units + bytes;
    uint64_t n_strings = (uint64_t)(map.end - strings);
    if (n_strings == 0 || strings[n_strings - 1] != 0)
        return bad(err, "character map strings without an end");
    for (uint32_t i = 0; i < n; i++) {
        uint32_t u = unit_at(units, i);
        if (i > 0 && u >> 31)
            continue; /* the root is stood on whatever its label */
        uint32_t to = i ^ ((u >> 10) << ((u & 0x200) >> 6));
        if (to >= n)
            return bad(err, "character map trie leads outside");
        if (((u >> 8) & 1) && (unit_at(units, to) & 0x7FFFFFFF) >= n_strings)
            return bad(err, "character map string outside");
    }
    return 0;
}

/* The fields of a sub-message that matter: `map` checked, `type` as found, `text` present. */
static int check_message(Wire w, uint64_t kind, uint64_t *type, Err *err)
{
    Field f;
    int rc, text = 0;
    while ((rc = next_field(&w, &f, err)) == 1) {
        if (kind == MODEL_TRAINER && f.number == TRAINER_TYPE && f.type == WIRE_VARINT)
            *type = f.value;
        if (kind == MODEL_PIECE && f.number == PIECE_TEXT && f.type == WIRE_BYTES) {
            text = f.bytes.at < f.bytes.end;
            if (memchr(f.bytes.at, 0, (size_t)(f.bytes.end - f.bytes.at)))
                return bad(err, "a piece with a NUL byte");
        }
        if ((kind == MODEL_NORMALIZER || kind == MODEL_DENORMALIZER) && f.number == NORMALIZER_CHARSMAP &&
            f.type == WIRE_BYTES)
            if ((rc = check_charsmap(f.bytes, err)) < 0)
                return rc;
    }
    if (rc == 0 && kind == MODEL_PIECE && !text)
        return bad(err, "an empty piece");
    return rc;
}

int spm_check(const void *bytes, int64_t size, Err *err)
{
    Wire w = {bytes, (const uint8_t *)bytes + size};
    Field f;
    uint64_t pieces = 0, type = TYPE_UNIGRAM;
    int rc;
    while ((rc = next_field(&w, &f, err)) == 1) {
        if (f.type != WIRE_BYTES)
            continue;
        if (f.number == MODEL_PIECE)
            pieces++;
        else if (f.number != MODEL_TRAINER && f.number != MODEL_NORMALIZER && f.number != MODEL_DENORMALIZER)
            continue;
        if ((rc = check_message(f.bytes, f.number, &type, err)) < 0)
            return rc;
    }
    if (rc < 0)
        return rc;
    if (pieces == 0)
        return bad(err, "no pieces");
    if (type != TYPE_UNIGRAM)
        return err_set(err, ERR_UNSUPPORTED, "tokeniser model of type %llu: only unigram (1) is T5's",
                       (unsigned long long)type);
    return 0;
}
