#include "common/base/disk.h"
#include <errno.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/mem.h"

/* `path`, or the nearest folder above it that exists; mem_free. */
static char *nearest(const char *path, Err *err)
{
    char *at = mem_strdup(path, err);
    while (at && !file_exists(at) && strcmp(at, "/") != 0 && strcmp(at, ".") != 0) {
        char *up = path_dir(at, err);
        mem_free(at);
        at = up;
    }
    return at;
}

int disk_check_writable(const char *folder, const char *what, Err *err)
{
    char *at = nearest(folder, err);
    int rc = at ? 0 : ERR_NOMEM;
    if (rc == 0 && !file_is_dir(at))
        rc = err_set(err, ERR_USAGE, "%s '%s': '%s' is not a folder", what, folder, at);
    if (rc == 0 && access(at, W_OK | X_OK) < 0)
        rc = err_errno(err, errno, "%s '%s': no file can be made in '%s'", what, folder, at);
    mem_free(at);
    return rc;
}

int disk_free_bytes(const char *path, int64_t *bytes, Err *err)
{
    struct statvfs fs;
    char *at = nearest(path, err);
    if (!at)
        return ERR_NOMEM;
    *bytes = statvfs(at, &fs) == 0 ? (int64_t)fs.f_bavail * (int64_t)fs.f_frsize : -1;
    mem_free(at);
    return 0;
}

/* Magic numbers of statfs(2) and of the file systems' own headers. */
static const struct {
    uint32_t magic;
    const char *name;
} networks[] = {{0x6969, "NFS"},      {0x517B, "SMB"},        {0xFE534D42, "SMB"},     {0xFF534D42, "SMB"},
                {0x00C36400, "Ceph"}, {0x0BD00BD0, "Lustre"}, {0x47504653, "GPFS"},    {0x19830326, "BeeGFS"},
                {0x5346414F, "AFS"},  {0x73757245, "Coda"},   {0x01021997, "9P"},      {0x7461636F, "OCFS2"},
                {0x01161970, "GFS2"}, {0xAAD7AAEA, "PanFS"},  {0x20030528, "OrangeFS"}};

int disk_network(const char *path, const char **kind, Err *err)
{
    struct statfs fs;
    char *at = nearest(path, err);
    if (!at)
        return ERR_NOMEM;
    int known = statfs(at, &fs) == 0;
    mem_free(at);
    *kind = NULL;
    for (size_t i = 0; known && !*kind && i < sizeof networks / sizeof *networks; i++)
        if ((uint32_t)fs.f_type == networks[i].magic)
            *kind = networks[i].name;
    return 0;
}
