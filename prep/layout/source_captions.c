/* Captions and sentences of a source: cleaning them, adding them, choosing those of a window. */
#include <string.h>
#include <utf8proc.h>
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/media/rational.h"
#include "prep/layout/source.h"

static int is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

char *caption_clean(const char *text, int64_t size, Err *err)
{
    char *out = mem_calloc(size + 1, 1, err);
    if (!out)
        return NULL;
    int64_t i = str_mark_size(text, size), n = 0;
    for (; i < size; i++) {
        if (!is_blank(text[i]))
            out[n++] = text[i];
        else if (n && out[n - 1] != ' ')
            out[n++] = ' ';
    }
    if (n && out[n - 1] == ' ')
        n--;
    out[n] = 0;
    return out;
}

/* The place of the first byte that is no UTF-8, or a control character other than blanks; -1
 * none. */
static int64_t first_bad(const char *text, int64_t size)
{
    utf8proc_int32_t code;
    for (int64_t i = 0; i < size;) {
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + i, size - i, &code);
        if (used < 1 || (code < 0x20 && !is_blank(text[i])) || code == 0x7f)
            return i;
        i += used;
    }
    return -1;
}

/* The cleaned text, or a rejection: *out is NULL then, and also when nothing is left. */
static int clean_or_reject(Source *s, const char *text, int64_t size, char **out, Err *err)
{
    *out = NULL;
    if (size > CAPTION_BYTES_MAX)
        return source_reject(s, REASON_BAD_CAPTION, err, "a caption has %" PRId64 " bytes, at most %d are read", size,
                             CAPTION_BYTES_MAX);
    int64_t bad = first_bad(text, size);
    if (bad >= 0)
        return source_reject(s, REASON_BAD_CAPTION, err, "a caption is not UTF-8 text: byte %" PRId64 " is 0x%02X", bad,
                             (unsigned char)text[bad]);
    char *clean = caption_clean(text, size, err);
    if (!clean)
        return ERR_NOMEM;
    if (*clean)
        *out = clean;
    else
        mem_free(clean);
    return 0;
}

static int captions_push(char ***list, int64_t *n, char *text, Err *err)
{
    char **grown = mem_realloc(*list, *n + 1, sizeof *grown, err);
    if (!grown)
        return ERR_NOMEM;
    *list = grown;
    grown[(*n)++] = text;
    return 0;
}

int source_add_caption(Source *s, const char *text, int64_t size, Err *err)
{
    char *clean;
    if (s->n_captions == CAPTIONS_MAX)
        return source_reject(s, REASON_BAD_CAPTION, err, "more than %d captions", CAPTIONS_MAX);
    int rc = clean_or_reject(s, text, size, &clean, err);
    if (rc == 0 && clean && (rc = captions_push(&s->captions, &s->n_captions, clean, err)) < 0)
        mem_free(clean);
    return rc;
}

int source_add_segment(Source *s, int64_t start, int64_t end, const char *text, int64_t size, Err *err)
{
    char *clean;
    int rc = clean_or_reject(s, text, size, &clean, err);
    if (rc < 0 || !clean)
        return rc;
    s->segment_bytes += (int64_t)strlen(clean) + 1;
    if (s->segment_bytes > CAPTION_BYTES_MAX) {
        mem_free(clean);
        return source_reject(s, REASON_BAD_SEGMENTS, err, "the motion sentences have more than %d bytes",
                             CAPTION_BYTES_MAX);
    }
    Segment *grown = mem_realloc(s->segments, s->n_segments + 1, sizeof *grown, err);
    if (!grown) {
        mem_free(clean);
        return ERR_NOMEM;
    }
    s->segments = grown;
    int64_t at = s->n_segments++;
    while (at > 0 && grown[at - 1].start > start) {
        grown[at] = grown[at - 1];
        at--;
    }
    grown[at] = (Segment){start, end, clean};
    return 0;
}

void captions_free(char ***captions, int64_t n)
{
    for (int64_t i = 0; *captions && i < n; i++)
        mem_free((*captions)[i]);
    mem_free(*captions);
    *captions = NULL;
}

/* The segment and the window share at least half of the segment, or a second. */
static int belongs(const Segment *g, double fps, int inclusive, double start_s, double end_s)
{
    double from = (double)g->start / fps, to = (double)(g->end + inclusive) / fps;
    double shared = (to < end_s ? to : end_s) - (from > start_s ? from : start_s);
    return shared >= 1 || (shared > 0 && shared >= (to - from) / 2);
}

/* Whether a sentence's end stands at the end of a cleaned text, a closing quote or bracket
 * aside. */
static int ends_sentence(const char *text)
{
    static const char *const ends[] = {".", "!", "?", ":", ";", ",", "\u2026", "\u3002", "\uff01", "\uff1f"};
    static const char *const closing[] = {"\"", "'", ")", "]", "\u201d", "\u2019"};
    size_t n = strlen(text);
    for (size_t i = 0; i < sizeof closing / sizeof *closing; i++)
        if (n >= strlen(closing[i]) && strncmp(text + n - strlen(closing[i]), closing[i], strlen(closing[i])) == 0) {
            n -= strlen(closing[i]);
            break;
        }
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n >= strlen(ends[i]) && strncmp(text + n - strlen(ends[i]), ends[i], strlen(ends[i])) == 0)
            return 1;
    return 0;
}

int source_window_captions(const Source *s, int64_t frames_fps, double start_s, double end_s, char ***out, int64_t *n,
                           Err *err)
{
    double fps = s->segments_us ? 1e6 : s->rate.den ? rational_value(s->rate) : (double)frames_fps;
    Str motion = {0};
    int rc = 0;
    *out = NULL;
    *n = 0;
    for (int64_t i = 0; i < s->n_segments && rc == 0; i++)
        if (belongs(&s->segments[i], fps, !s->segments_us, start_s, end_s))
            rc = str_printf(&motion, err, "%s%s",
                            !motion.len                  ? ""
                            : ends_sentence(motion.data) ? " "
                                                         : ". ",
                            s->segments[i].text);
    int64_t count = s->n_captions ? s->n_captions : (motion.len > 0);
    for (int64_t i = 0; i < count && rc == 0; i++) {
        const char *app = s->n_captions ? s->captions[i] : "";
        const char *between = !*app || !motion.len ? "" : ends_sentence(app) ? " " : ". ";
        char *text = mem_printf(err, "%s%s%s", app, between, motion.len ? motion.data : "");
        if (!text || (rc = captions_push(out, n, text, err)) < 0) {
            mem_free(text);
            rc = ERR_NOMEM;
        }
    }
    str_fini(&motion);
    if (rc < 0)
        captions_free(out, *n);
    return rc;
}
