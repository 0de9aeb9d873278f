#include "prep/clip/source_facts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static void set_note(SourceNote *n, Reason reason, const char *fmt, ...) WEFT_PRINTF(3, 4);
static void set_note(SourceNote *n, Reason reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(n->text, sizeof n->text, fmt, ap);
    va_end(ap);
    n->reason = reason;
}

static const char *or_untagged(const char *name)
{
    return name[0] ? name : "untagged";
}

/* Transfer curves that are neither converted nor treated as BT.709. */
static int unknown_curve(const VideoInfo *v)
{
    static const char *const curves[] = {"linear", "log100", "log316", "smpte428"};
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
        if (strcmp(v->transfer, curves[i]) == 0)
            return 1;
    return 0;
}

int source_colours_refused(const VideoInfo *v, int hdr_convert, SourceNote *why)
{
    if (v->hdr == VIDEO_HDR_DOLBY)
        set_note(why, REASON_HDR,
                 "Dolby Vision profile %d without a picture for other players: its colours cannot be decoded here; "
                 "convert the source first",
                 v->dolby_profile);
    else if (v->hdr == VIDEO_HDR_METADATA && !hdr_convert)
        set_note(why, REASON_HDR,
                 "the file describes an HDR mastering display or HDR light levels, but its transfer is %s: convert the "
                 "source first, or tag it (clip.hdr=convert reads an untagged one as PQ)",
                 or_untagged(v->transfer));
    else if (v->hdr && !hdr_convert)
        set_note(why, REASON_HDR,
                 "transfer '%s', primaries '%s': high dynamic range must be tone-mapped first (clip.hdr=convert)",
                 v->transfer, v->primaries);
    else if (unknown_curve(v))
        set_note(why, REASON_UNSUPPORTED,
                 "transfer '%s' is not read; convert the source to BT.709, BT.601, sRGB or a gamma of 2.2 or 2.8 first",
                 v->transfer);
    else if (strcmp(v->primaries, "smpte428") == 0)
        set_note(why, REASON_UNSUPPORTED, "primaries 'smpte428' (XYZ samples) are not read; convert the source first");
    else
        return 0;
    return 1;
}

static int colour_notes(const VideoInfo *v, SourceNote *notes)
{
    int n = 0;
    if (v->hdr == VIDEO_HDR_METADATA)
        set_note(&notes[n++], REASON_TONE_MAPPED,
                 "the file describes an HDR mastering display or HDR light levels and its transfer is %s: %s",
                 or_untagged(v->transfer), v->transfer[0] ? "read as tagged" : "tone-mapped as PQ");
    else if (v->hdr)
        set_note(&notes[n++], REASON_TONE_MAPPED, "transfer '%s', primaries '%s': tone-mapped", v->transfer,
                 v->primaries);
    if (v->converted)
        set_note(&notes[n++], REASON_COLOUR_CONVERTED, "transfer '%s', primaries '%s': converted to BT.709",
                 or_untagged(v->transfer), or_untagged(v->primaries));
    if (v->profile_ignored)
        set_note(&notes[n++], REASON_PROFILE_IGNORED,
                 "the embedded colour profile is neither sRGB nor one that is converted: the colours are read as if it "
                 "were not there; convert the source to sRGB first");
    if (v->hdr_suspected)
        set_note(&notes[n++], REASON_HDR_SUSPECTED,
                 "the matrix is BT.2020's but the transfer is not tagged: read as SDR; if the picture looks flat and "
                 "grey, the source is HDR that lost its tags");
    if (v->guessed)
        set_note(&notes[n++], REASON_COLOUR_GUESSED, "the colour tags are not complete: read as %s, %s range",
                 v->matrix_used, v->range_used);
    return n;
}

/* Without numbers: how many frames were decoded depends on the window. */
static int field_notes(const VideoCounts *c, SourceNote *notes)
{
    int64_t fields = c->interlaced_frames, plain = c->decoded_frames - fields;
    int n = 0;
    if (fields * 100 > c->decoded_frames && plain * 100 > c->decoded_frames)
        set_note(&notes[n++], REASON_MIXED_FIELDS,
                 "some frames are flagged interlaced and some progressive: each is treated as its flag says");
    if (fields && c->combed_frames * 50 < fields)
        set_note(&notes[n++], REASON_FIELDS_ALIKE,
                 "frames are flagged interlaced but look progressive, and half of their rows are not used "
                 "(clip.deinterlace=never uses all)");
    return n;
}

int source_notes(const VideoInfo *v, const VideoCounts *c, const char *background, SourceNote notes[SOURCE_NOTES_MAX])
{
    int n = colour_notes(v, notes);
    n += field_notes(c, notes + n);
    if (v->alpha == 2)
        set_note(&notes[n++], REASON_ALPHA_COVERED,
                 "the file has transparency, which this FFmpeg cannot decode (no libvpx): what lies under it is shown");
    else if (v->alpha && (c->transparent_frames || strcmp(v->container, "folder") == 0))
        set_note(&notes[n++], REASON_ALPHA_COVERED, "transparent parts are laid over %s (clip.background)", background);
    if (v->matrix_refused)
        set_note(&notes[n++], REASON_MATRIX_IGNORED,
                 "the display matrix does not turn the picture by quarters: the picture is not turned");
    if (c->before_key)
        set_note(&notes[n++], REASON_STARTS_INSIDE,
                 "%" PRId64
                 " frames before the first key frame need frames that the file does not have, and are left out",
                 c->before_key);
    return n;
}

int colour_parse(const char *name, uint8_t rgb[3])
{
    static const struct {
        const char *name;
        uint8_t level;
    } names[] = {{"white", 255}, {"black", 0}, {"grey", 128}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            memset(rgb, names[i].level, 3);
            return 1;
        }
    unsigned r, g, b;
    if (strlen(name) != 7 || name[0] != '#' || strspn(name + 1, "0123456789abcdefABCDEF") != 6 ||
        sscanf(name + 1, "%2x%2x%2x", &r, &g, &b) != 3)
        return 0;
    rgb[0] = (uint8_t)r;
    rgb[1] = (uint8_t)g;
    rgb[2] = (uint8_t)b;
    return 1;
}
