/* A page to vote on without knowing the sides: OUT/blind with copies of the videos under names that tell nothing,
 * and OUT/key.json.  (The copies' metadata is as it was: who opens a file with other programs may find out.) */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/html.h"
#include "common/base/json.h"
#include "common/base/jsonw.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/base/schema.h"
#include "infer/compare.h"
#include "infer/page.h"

enum { CATCH_EVERY = 10, MAX_VIDEO_BYTES = 1 << 30 };

/* One place of the page. */
typedef struct Place {
    int64_t pair;
    int model[2]; /* shown left and right: 0 base, 1 tuned; the same twice: a catch pair */
    char file[2][24];
} Place;

typedef struct Study {
    const Comparison *c;
    const char *dir; /* where the page is made */
    Place *place;
    int64_t n;
    char id[17];
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

/* Copies one video and adds its digest to the study's. */
static int copy_video(Study *s, int64_t i, int side, Sha256 *sha, Err *err)
{
    const Place *p = &s->place[i];
    const char *from = s->c->side[p->model[side]].videos.item[s->c->pair[p->pair].at[p->model[side]]].path,
               *dot = strrchr(path_base(from), '.');
    char *name = s->place[i].file[side], *bytes = NULL, *to = NULL;
    int64_t size;
    Digest d;
    snprintf(name, sizeof s->place[i].file[side], "%04" PRId64 "-%s%.8s", i + 1, side ? "b" : "a", dot ? dot : "");
    int rc = file_read(from, MAX_VIDEO_BYTES, &bytes, &size, err);
    if (rc == 0)
        rc = (to = path_join(s->dir, name, err)) ? sha256_bytes(bytes, size, &d, err) : ERR_NOMEM;
    if (rc == 0) {
        sha256_update(sha, d.byte, sizeof d.byte);
        rc = file_write_atomic(to, bytes, size, err);
    }
    mem_free(bytes);
    mem_free(to);
    return rc;
}

static int copy_videos(Study *s, Err *err)
{
    Sha256 sha = {0};
    char hex[65];
    int rc = sha256_init(&sha, err);
    for (int64_t i = 0; i < s->n && rc == 0; i++) {
        rc = copy_video(s, i, 0, &sha, err);
        if (rc == 0)
            rc = copy_video(s, i, 1, &sha, err);
    }
    if (rc == 0) {
        sha256_final_hex(&sha, hex);
        snprintf(s->id, sizeof s->id, "%.16s", hex);
    }
    sha256_fini(&sha);
    return rc;
}

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

int blind_write(const Comparison *c, const char *folder, uint64_t seed, Err *err)
{
    char *done = path_join(folder, "blind", err), *partial = path_join(folder, "blind.partial", err);
    Study s = {.c = c, .dir = partial};
    int rc = done && partial ? dir_remove(partial, err) : ERR_NOMEM; /* of a run that was stopped */
    if (rc == 0)
        rc = dir_make(partial, err);
    if (rc == 0)
        rc = choose(&s, seed, err);
    if (rc == 0)
        rc = copy_videos(&s, err);
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
