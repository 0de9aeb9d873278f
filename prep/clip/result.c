/* The result for a window, or for a source without windows. */
#include <stdio.h>
#include "common/base/mem.h"
#include "prep/clip/internal.h"

void result_begin(ClipResult *r, const ClipJob *job, const ClipIdentity *id, const Scan *scan, const WindowPlan *plan)
{
    *r = (ClipResult){.identity = id, .scan = scan, .plan = plan};
    snprintf(r->id, sizeof r->id, "%s", job->src->id);
    if (is_rejected(&id->rejected))
        r->rejected = id->rejected;
    else if (scan && is_rejected(&scan->rejected))
        r->rejected = scan->rejected;
    else if (plan && is_rejected(&plan->rejected))
        r->rejected = plan->rejected;
}

void result_fini(ClipResult *r)
{
    mem_free(r->picks);
    captions_free(&r->captions, r->n_captions);
    mem_free(r->figures);
    mem_free(r->contact);
    mem_free(r->file);
    notes_fini(&r->notes);
}

int result_captions(ClipResult *r, const ClipJob *job, double start_s, double end_s, Err *err)
{
    captions_free(&r->captions, r->n_captions);
    int rc = source_window_captions(job->src, job->cfg->frames_fps, start_s, end_s, &r->captions, &r->n_captions, err);
    if (rc == 0 && r->n_captions > 0)
        notes_remove(&r->notes, REASON_EMPTY_CAPTION); /* of where the window was before */
    if (rc < 0 || r->n_captions > 0 || is_rejected(&r->rejected) || notes_have(&r->notes, REASON_EMPTY_CAPTION))
        return rc;
    if (job->cfg->allow_empty_caption)
        return note_add(&r->notes, err, REASON_EMPTY_CAPTION, "no caption: trained as the empty prompt");
    reject(job, &r->rejected, REASON_EMPTY_CAPTION,
           "no caption (clip.allow_empty_caption takes such clips as the empty prompt)");
    return 0;
}

int result_contact(ClipResult *r, const ClipJob *job, Err *err)
{
    if (!is_rejected(&r->rejected) || !job->out_dir || !r->scan || r->scan->n == 0 || r->contact)
        return 0;
    return contact_of_source(job, r->scan, r->id, &r->contact, err);
}
