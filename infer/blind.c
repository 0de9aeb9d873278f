/* A page to vote on without knowing the sides: OUT/blind with copies of the videos under names that tell nothing,
 * and OUT/key.json.  The copies are encoded anew, all alike and without metadata: neither a file's text nor its
 * container, codec or encoder tells whose it is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/confine.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/html.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/schema.h"
#include "common/base/threads.h"
#include "common/base/worker.h"
#include "common/media/video.h"
#include "infer/compare.h"
#include "infer/page.h"

enum {
    CATCH_EVERY = 10,
    COPY_CRF = 12,        /* of H.264: no difference to be seen */
    ONE_FRAME_RATE = 8000 /* thousandths of frames a second, of a video that has no rate */
};

/* One place of the page. */
typedef struct Place {
    int64_t pair;
    int model[2]; /* shown left and right: 0 base, 1 tuned; the same twice: a catch pair */
    char file[2][32];
} Place;

typedef struct Study {
    const Comparison *c;
    const char *dir; /* where the page is made */
    Place *place;
    int64_t n;
    char id[17];
    VideoLimits limits;
} Study;

/* Votes are kept in the browser until they are saved. */
static const char script[] =
    "const study=document.body.querySelector('main').dataset.study,form=document.querySelector('form');\n"
    "const key='weft-votes-'+study;\n"
    "const votes=()=>Object.fromEntries([...form.querySelectorAll('.pair input:checked')].map(i=>[i.name,i.value]));\n"
    "const count=()=>{document.getElementById('count').textContent=Object.keys(votes()).length+' of "
    "'+form.querySelectorAll('.pair').length+' answered'};\n"
    "try{for(const[n,v]of Object.entries(JSON.parse(localStorage.getItem(key)||'{}'))){const "
    "i=form.querySelector(`input[name=\"${n}\"][value=\"${v}\"]`);if(i)i.checked=true}}catch(e){}\n"
    "form.addEventListener('change',()=>{count();try{localStorage.setItem(key,JSON.stringify(votes()))}catch(e){}});\n"
    "for(const s of document.querySelectorAll('.sides')){const[a,b]=s.querySelectorAll('video');"
    "for(const[x,y]of[[a,b],[b,a]]){x.addEventListener('play',()=>{if(Math.abs(x.currentTime-y.currentTime)>.04)"
    "y.currentTime=x.currentTime;y.play()});x.addEventListener('pause',()=>y.pause())}"
    "a.addEventListener('timeupdate',()=>{if(!a.paused&&!b.seeking&&Math.abs(a.currentTime-b.currentTime)>.1)"
    "b.currentTime=a.currentTime})}\n"
    "document.getElementById('save').addEventListener('click',()=>{const voter=document.getElementById('voter').value"
    ".trim()||'anonymous';const a=document.createElement('a');a.href=URL.createObjectURL(new Blob([JSON.stringify("
    "{format:1,study,voter,votes:votes()},null,1)+'\\n'],{type:'application/json'}));"
    "a.download='votes-'+study+'-'+voter.replace(/[^a-zA-Z0-9]+/g,'-')+'.json';a.click()});\ncount();\n";

/* The pairs in a drawn order, each with drawn sides; after every tenth, and at the end, one that shows the same
 * video twice. */
static int choose(Study *s, uint64_t seed, Err *err)
{
    const Comparison *c = s->c;
    Philox order = philox_stream(seed, RNG_ORDER, 0, 0), sides = philox_stream(seed, RNG_ORDER, 1, 0);
    int64_t *turn = mem_calloc(c->n, sizeof *turn, err), shown = 0;
    s->place = mem_calloc(c->n + c->n / CATCH_EVERY + 1, sizeof *s->place, err);
    if (!turn || !s->place) {
        mem_free(turn);
        return ERR_NOMEM;
    }
    philox_permutation(&order, turn, c->n);
    for (int64_t i = 0; i < c->n; i++) {
        const Pair *p = &c->pair[turn[i]];
        int whole = c->side[0].measured[p->at[0]].done == 1 && c->side[1].measured[p->at[1]].done == 1;
        int left = (int)(philox_u32(&sides, (uint64_t)i) & 1);
        if (whole) {
            s->place[s->n++] = (Place){.pair = turn[i], .model = {left, !left}};
            shown++;
        }
        if (shown && (i + 1 == c->n || (whole && shown % CATCH_EVERY == 0))) {
            int64_t again = s->place[philox_below(&sides, (uint64_t)(c->n + i), (uint64_t)s->n)].pair;
            s->place[s->n++] = (Place){.pair = again, .model = {left, left}};
        }
    }
    mem_free(turn);
    return s->n ? 0 : err_set(err, ERR_FORMAT, "no pair has two videos that can be shown");
}

/* ---- copies ----------------------------------------------------------------------------------- */
static const VideoItem *shown_video(const Study *s, int64_t item)
{
    const Place *p = &s->place[item / 2];
    int model = p->model[item % 2];
    return &s->c->side[model].videos.item[s->c->pair[p->pair].at[model]];
}

static const Measured *shown_measured(const Study *s, int64_t item)
{
    const Place *p = &s->place[item / 2];
    int model = p->model[item % 2];
    return &s->c->side[model].measured[s->c->pair[p->pair].at[model]];
}

/* From an open video to dir/NAME: even sides (a column or row more than that is cut off), the mean rate. */
static int encode(const Study *s, int64_t item, VideoReader *r, Err *err)
{
    const VideoInfo *info = video_info(r);
    int64_t width = info->display_width / 2 * 2, height = info->display_height / 2 * 2;
    double fps = shown_measured(s, item)->fps;
    VideoWriterParams p = {.codec = VIDEO_H264,
                           .width = width,
                           .height = height,
                           .rate = {fps > 0.001 && fps < 1000 ? (int64_t)(fps * 1000 + 0.5) : ONE_FRAME_RATE, 1000},
                           .crf = COPY_CRF};
    FitPlan plan = fit_plan(info, width, height, FIT_COVER, 0, 0);
    VideoWriter *w = NULL;
    VideoFrame f;
    uint8_t *rgb = mem_calloc(width * height, 3, err);
    char *to = path_join(s->dir, s->place[item / 2].file[item % 2], err);
    int rc = rgb && to ? video_create(&w, to, &p, err) : ERR_NOMEM;
    while (rc == 0 && (rc = video_next(r, &f, err)) == 1) {
        rc = video_to_rgb(r, &f, &plan, rgb, err);
        if (rc == 0)
            rc = video_write(w, rgb, err);
    }
    if (rc == 0)
        rc = video_finish(&w, err);
    video_abort(&w);
    mem_free(rgb);
    mem_free(to);
    return rc;
}

/* In a process of its own, as videos are measured. */
static int copy_work(void *user, int64_t item, json_t **out, Err *err)
{
    const Study *s = user;
    const char *from = shown_video(s, item)->path;
    VideoReader *r = NULL;
    int rc = confine_process(&(ConfineRules){(const char *[]){from, NULL}, (const char *[]){s->dir, NULL}}, err);
    if (rc >= 0)
        rc = video_open(&r, from, &s->limits, err);
    if (rc == 0)
        rc = encode(s, item, r, err);
    video_close(&r);
    if (rc < 0)
        return err_wrap(err, rc, "the copy of '%s' for the blind page", from);
    return (*out = json_true()) ? 0 : ERR_NOMEM;
}

static int copy_done(void *user, int64_t item, const json_t *result, const char *code, const char *text, Err *err)
{
    return result ? 0
                  : err_set(err, strcmp(code, "memory") == 0 ? ERR_NOMEM : ERR_FORMAT, "no copy of '%s': %s",
                            shown_video(user, item)->path, text);
}

static int copy_stop(void *user)
{
    (void)user;
    return interrupt_requested();
}

static void name_copies(Study *s)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int side = 0; side < 2; side++)
            snprintf(s->place[i].file[side], sizeof s->place[i].file[side], "%04" PRId64 "-%s.mp4", i + 1,
                     side ? "b" : "a");
}

/* Encodes all, and names the study by their digests. */
static int copy_videos(Study *s, const Recipe *recipe, int64_t jobs, Err *err)
{
    Sha256 sha = {0};
    char hex[65];
    int64_t wall = recipe_int(recipe, "limits.wall_seconds");
    Workers w = {.jobs = jobs < 1 ? 1 : jobs,
                 .limits = {.cpu_s = recipe_int(recipe, "limits.cpu_seconds"),
                            .wall_s = wall,
                            .memory_bytes = recipe_int(recipe, "limits.memory_mb") << 20},
                 .user = s,
                 .work = copy_work,
                 .done = copy_done,
                 .stop = copy_stop};
    s->limits = (VideoLimits){.max_pixels = recipe_int(recipe, "limits.pixels"),
                              .max_frames = recipe_int(recipe, "limits.frames"),
                              .max_seconds = (double)wall};
    name_copies(s);
    int rc = workers_run(&w, 2 * s->n, err);
    if (rc == 0 && interrupt_requested())
        rc = err_set(err, ERR_INTERRUPTED, "interrupted while the blind page was made");
    if (rc == 0)
        rc = sha256_init(&sha, err);
    for (int64_t i = 0; i < 2 * s->n && rc == 0; i++) {
        char *path = path_join(s->dir, s->place[i / 2].file[i % 2], err);
        rc = path ? sha256_file_hex(path, hex, err) : ERR_NOMEM;
        if (rc == 0)
            sha256_update(&sha, hex, 64);
        mem_free(path);
    }
    if (rc == 0) {
        sha256_final_hex(&sha, hex);
        snprintf(s->id, sizeof s->id, "%.16s", hex);
    }
    sha256_fini(&sha);
    return rc;
}

/* ---- page and key ----------------------------------------------------------------------------- */
static void one_place(FILE *out, const Study *s, int64_t i)
{
    static const char *const value[] = {"left", "tie", "right"}, *const label[] = {"A", "no difference", "B"};
    const Place *p = &s->place[i];
    fprintf(out, "<fieldset class=\"pair\"><legend>%" PRId64 "</legend><p>", i + 1);
    html_bdi(out, pair_title(s->c, p->pair));
    fputs("</p><div class=\"sides\">", out);
    for (int side = 0; side < 2; side++) {
        fprintf(out,
                "<figure><figcaption>%s</figcaption><video muted loop playsinline controls preload=\"metadata\" src=\"",
                side ? "B" : "A");
        html_text(out, p->file[side]);
        fputs("\"></video></figure>", out);
    }
    fputs("</div><p>", out);
    for (int k = 0; k < 3; k++)
        fprintf(out, "<label><input type=\"radio\" name=\"%04" PRId64 "\" value=\"%s\"> %s</label> ", i + 1, value[k],
                label[k]);
    fputs("</p></fieldset>\n", out);
}

static int write_vote_page(const Study *s, Err *err)
{
    AtomicFile *f = NULL;
    char *path = path_join(s->dir, "index.html", err);
    int rc = path ? atomic_open(&f, path, err) : ERR_NOMEM;
    if (rc == 0) {
        FILE *out = atomic_stream(f);
        rc = page_begin(out, "Which video is better?", script, err);
        fprintf(out,
                "<main data-study=\"%s\"><h1>Which video is better?</h1>\n<p>For each pair choose the video that you "
                "would rather show: it fits the text, looks real, and moves well. Choose “no difference” where you see "
                "none. At the end save your votes and send the file back.</p>\n<form>\n<div class=\"pairs\">\n",
                s->id);
        for (int64_t i = 0; i < s->n; i++)
            one_place(out, s, i);
        fputs("</div>\n<p class=\"bar last\"><label>Your name <input id=\"voter\" maxlength=\"80\"></label> <button "
              "type=\"button\" id=\"save\">Save votes</button><span id=\"count\" class=\"dim\"></span></p>\n"
              "</form></main>\n",
              out);
        page_end(out, script);
    }
    if (rc == 0)
        rc = atomic_commit(&f, err);
    atomic_abort(&f);
    mem_free(path);
    return rc;
}

static int write_key(const Study *s, const char *folder, uint64_t seed, Err *err)
{
    JsonWriter w;
    json_t *key = NULL;
    char name[24], *path = path_join(folder, "key.json", err);
    jsonw_begin(&w);
    jsonw_int(&w, "format", 1);
    jsonw_str(&w, "study", s->id);
    jsonw_int(&w, "seed", (int64_t)seed);
    jsonw_open_array(&w, "models");
    jsonw_str(&w, NULL, s->c->name[0]);
    jsonw_str(&w, NULL, s->c->name[1]);
    jsonw_close(&w);
    jsonw_open_array(&w, "pairs");
    for (int64_t i = 0; i < s->n; i++) {
        const Place *p = &s->place[i];
        snprintf(name, sizeof name, "%04" PRId64, i + 1);
        jsonw_open(&w, NULL);
        jsonw_str(&w, "pair", name);
        jsonw_str(&w, "prompt", pair_title(s->c, p->pair));
        jsonw_int(&w, "left", p->model[0]);
        jsonw_int(&w, "right", p->model[1]);
        jsonw_bool(&w, "catch", p->model[0] == p->model[1]);
        jsonw_close(&w);
    }
    jsonw_close(&w);
    int rc = jsonw_finish(&w, &key, "key.json", err);
    if (rc == 0)
        rc = path ? schema_check("blind-key", key, path, err) : ERR_NOMEM;
    if (rc == 0)
        rc = json_write_file(key, path, err);
    json_decref(key);
    mem_free(path);
    return rc;
}

int blind_check(const char *folder, Err *err)
{
    char *done = path_join(folder, "blind", err);
    int rc = done ? file_look(done, err) : ERR_NOMEM;
    if (rc == 1)
        rc = err_set(err, ERR_USAGE, "'%s' exists, and people may be voting on it: give another --out, or remove it",
                     done);
    mem_free(done);
    return rc;
}

int blind_write(const Comparison *c, const char *folder, uint64_t seed, const Recipe *recipe, int64_t jobs, Err *err)
{
    char *done = path_join(folder, "blind", err), *partial = path_join(folder, "blind.partial", err);
    Study s = {.c = c, .dir = partial};
    int rc = done && partial ? dir_remove(partial, err) : ERR_NOMEM; /* of a run that was stopped */
    if (rc == 0)
        rc = dir_make(partial, err);
    if (rc == 0)
        rc = choose(&s, seed, err);
    if (rc == 0)
        rc = copy_videos(&s, recipe, jobs, err);
    if (rc == 0)
        rc = write_vote_page(&s, err);
    if (rc == 0)
        rc = write_key(&s, folder, seed, err);
    if (rc == 0 && rename(partial, done) < 0)
        rc = err_errno(err, errno, "renaming '%s' to '%s'", partial, done);
    if (rc == 0)
        rc = dir_sync(folder, err);
    mem_free(s.place);
    mem_free(done);
    mem_free(partial);
    return rc;
}
