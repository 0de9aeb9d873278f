#include "prep/layout/pictures.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "common/base/file.h"
#include "common/base/mem.h"

int picture_number(const char *name, int64_t *number, int64_t *prefix)
{
    static const char *const ext[] = {".png", ".jpg", ".jpeg"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ext / sizeof *ext; i++) {
        size_t e = strlen(ext[i]), first = n > e ? n - e : 0;
        if (n <= e || strcasecmp(name + first, ext[i]) != 0)
            continue;
        while (first > 0 && name[first - 1] >= '0' && name[first - 1] <= '9')
            first--;
        if (n - e - first == 0 || n - e - first > 9)
            return 0;
        *number = strtoll(name + first, NULL, 10);
        *prefix = (int64_t)first;
        return 1;
    }
    return 0;
}

int64_t pictures_among(char **names, int64_t n, uint8_t *marks)
{
    int64_t plain = 0, others = 0, number, prefix, length = 0;
    const char *other = NULL;
    int one = 1; /* all others have one prefix */
    for (int64_t i = 0; i < n; i++) {
        marks[i] = names[i][0] != '.' && picture_number(names[i], &number, &prefix);
        if (!marks[i])
            continue;
        if (prefix == 0 || (prefix == 6 && strncmp(names[i], "frame_", 6) == 0)) {
            plain++;
            marks[i] = 2;
            continue;
        }
        one = one && (!other || (prefix == length && strncmp(names[i], other, (size_t)length) == 0));
        other = names[i];
        length = prefix;
        others++;
    }
    int least = plain ? 2 : one && others > 1 ? 1 : 3;
    for (int64_t i = 0; i < n; i++)
        marks[i] = marks[i] >= least;
    return least == 2 ? plain : least == 1 ? others : 0;
}

static int by_number(const void *a, const void *b)
{
    const Picture *x = a, *y = b;
    return x->number != y->number ? (x->number > y->number) - (x->number < y->number) : strcmp(x->name, y->name);
}

void pictures_free(Picture **p, int64_t n)
{
    for (int64_t i = 0; *p && i < n; i++)
        mem_free((*p)[i].name);
    mem_free(*p);
    *p = NULL;
}

int pictures_list(const char *path, Picture **out, int64_t *n, Err *err)
{
    char **names;
    int64_t total, count = 0, number, prefix;
    *out = NULL;
    *n = 0;
    int rc = dir_list(path, &names, &total, err);
    if (rc < 0)
        return rc;
    Picture *list = mem_calloc(total, sizeof *list, err);
    uint8_t *marks = mem_calloc(total, 1, err);
    if (!list || !marks)
        rc = ERR_NOMEM;
    else
        pictures_among(names, total, marks);
    for (int64_t i = 0; i < total && rc == 0; i++)
        if (marks[i] && picture_number(names[i], &number, &prefix)) {
            list[count] = (Picture){number, mem_strdup(names[i], err)};
            rc = list[count].name ? 0 : ERR_NOMEM;
            count++;
        }
    dir_list_free(&names, total);
    mem_free(marks);
    if (rc == 0 && count)
        qsort(list, (size_t)count, sizeof *list, by_number);
    for (int64_t i = 1; i < count && rc == 0; i++)
        if (list[i - 1].number == list[i].number)
            rc = err_set(err, ERR_FORMAT, "'%s': pictures %s and %s have the same number", path, list[i - 1].name,
                         list[i].name);
    if (rc == 0 && count == 0)
        rc = err_set(err, ERR_FORMAT, "'%s': a folder without numbered pictures (000.png, 001.png, ...)", path);
    if (rc < 0) {
        pictures_free(&list, count);
        return rc;
    }
    *out = list;
    *n = count;
    return 0;
}
