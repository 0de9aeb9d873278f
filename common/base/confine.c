#include "common/base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's interface (linux/landlock.h), written out: headers of older systems lack it or its
 * later parts.  The numbers are the same on every architecture. */
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446, ASK_VERSION = 1, RULE_PATH_BENEATH = 1 };
typedef struct Ruleset {
    uint64_t fs, net, scoped;
} Ruleset;
typedef struct __attribute__((packed)) PathBeneath {
    uint64_t allowed;
    int32_t fd;
} PathBeneath;
#define BIT(n) ((uint64_t)1 << (n))
static const uint64_t fs_write_file = BIT(1), fs_read_file = BIT(2), fs_read_dir = BIT(3), fs_remove_file = BIT(5),
                      fs_make_reg = BIT(8), fs_truncate = BIT(14);

/* All rights that a version of the interface knows, each of which is denied unless a rule allows it. */
static Ruleset all_rights(long version)
{
    Ruleset r = {.fs = BIT(13) - 1};    /* execute, write, read, list, remove and make each kind of file */
    r.fs |= version >= 2 ? BIT(13) : 0; /* link or rename into another folder */
    r.fs |= version >= 3 ? BIT(14) : 0; /* truncate */
    r.fs |= version >= 5 ? BIT(15) : 0; /* device controls */
    r.net = version >= 4 ? 3 : 0;       /* bind and connect TCP */
    r.scoped = version >= 6 ? 3 : 0;    /* abstract sockets of, and signals to, other processes */
    return r;
}

static long version_of_kernel(void)
{
    return syscall(CREATE_RULESET, NULL, 0, ASK_VERSION);
}

int confine_available(void)
{
    return version_of_kernel() >= 1;
}

static int allow(int ruleset, const char *path, uint64_t rights, Err *err)
{
    struct stat st;
    PathBeneath rule = {rights, open(path, O_PATH | O_CLOEXEC)};
    if (rule.fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : err_errno(err, errno, "'%s'", path);
    int rc = fstat(rule.fd, &st) < 0 ? err_errno(err, errno, "'%s'", path) : 0;
    if (rc == 0 && !S_ISDIR(st.st_mode))
        rule.allowed &= fs_read_file | fs_write_file | fs_truncate;
    if (rc == 0 && syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
        rc = err_errno(err, errno, "allowing a confined process '%s'", path);
    close(rule.fd);
    return rc;
}

int confine_process(const ConfineRules *rules, Err *err)
{
    long version = version_of_kernel();
    if (version < 1)
        return 0;
    Ruleset all = all_rights(version);
    uint64_t read = fs_read_file | fs_read_dir,
             write = read | fs_write_file | fs_remove_file | fs_make_reg | (all.fs & fs_truncate);
    int ruleset = (int)syscall(CREATE_RULESET, &all, sizeof all, 0), rc = 0;
    if (ruleset < 0)
        return err_errno(err, errno, "confining a process");
    for (int i = 0; rules->read && rules->read[i] && rc == 0; i++)
        rc = allow(ruleset, rules->read[i], read, err);
    for (int i = 0; rules->write && rules->write[i] && rc == 0; i++)
        rc = allow(ruleset, rules->write[i], write, err);
    if (rc == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(RESTRICT_SELF, ruleset, 0) < 0))
        rc = err_errno(err, errno, "confining a process");
    close(ruleset);
    return rc < 0 ? rc : 1;
}
