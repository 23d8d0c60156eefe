/* A disk that fails, or a process that dies, at the n-th change below one folder.
 *
 * The one idea: whoever changes a file (Python, Arrow or Delta's Rust) asks libc, so one counter here sees every
 * step of all of them. Built by a test and preloaded; counts nothing until `once_arm`. With a trace, what was
 * done is written down by inode, so that a test can take away what power loss would: w written, s flushed,
 * n a new name, r a name that now means another file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL, TORN, FAIL }; /* TORN: half of a write, then death. FAIL: this change and all after it */
static atomic_int steps, at, mode, code;
static char folder[4096];
static int trace = -1;

void once_arm(const char *below, int what, int when, int error, const char *to) {
    if (*to) trace = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    strncpy(folder, below, sizeof folder - 1);
    at = when; mode = what; code = error; steps = 0;
}

int once_steps(void) { return steps; }

static int below(const char *path) { return folder[0] && path && !strncmp(path, folder, strlen(folder)); }

static int open_below(int fd) {
    char link[64], path[4096];
    if (!folder[0] || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return below(path);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* Whether this change must fail. `fd` and `size` are those of a write. */
static int step(int fd, const void *data, size_t size) {
    int now = ++steps;
    if (mode == FAIL) return now >= at ? (errno = code, 1) : 0;
    if (mode == COUNT || now != at) return 0;
    if (mode == TORN && size > 1) { long done = syscall(SYS_write, fd, data, size / 2); (void)done; }
    die();
    return 1;
}

/* Write down what was done, and hand on its result. */
static long did(long result, char what, int fd, const char *path) {
    struct stat found;
    if (trace < 0 || result < 0 || (path ? !below(path) || stat(path, &found) : !open_below(fd) || fstat(fd, &found))) return result;
    char line[4200];
    int length = snprintf(line, sizeof line, "%c %lu %s\n", what, (unsigned long)found.st_ino, path ? path : "");
    long done = syscall(SYS_write, trace, line, length); (void)done;
    return result;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define MAKES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define WITH_MODE mode_t m = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list l; va_start(l, flags); m = va_arg(l, mode_t); va_end(l); }

#define OPENS(name, ...) { REAL(name); WITH_MODE \
    if (MAKES(flags) && below(p) && step(-1, 0, 0)) return -1; \
    int fd = real(__VA_ARGS__, m); return MAKES(flags) ? did(fd, 'n', fd, p) : fd; }
#define CHANGES(name, path, call) { REAL(name); return below(path) && step(-1, 0, 0) ? -1 : call; }
#define WRITES(name, data, size, call) { REAL(name); return open_below(fd) && step(fd, data, size) ? -1 : did(call, 'w', fd, 0); }
#define RENAMES(name, call) { REAL(name); char what = syscall(SYS_faccessat, AT_FDCWD, b, F_OK) ? 'n' : 'r'; \
    return below(b) && step(-1, 0, 0) ? -1 : did(call, what, -1, b); }

int open(const char *p, int flags, ...) OPENS(open, p, flags)
int open64(const char *p, int flags, ...) OPENS(open64, p, flags)
int openat(int d, const char *p, int flags, ...) OPENS(openat, d, p, flags)
int openat64(int d, const char *p, int flags, ...) OPENS(openat64, d, p, flags)
ssize_t write(int fd, const void *b, size_t n) WRITES(write, b, n, real(fd, b, n))
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) WRITES(pwrite64, b, n, real(fd, b, n, o))
ssize_t writev(int fd, const struct iovec *v, int n) WRITES(writev, v[0].iov_base, v[0].iov_len, real(fd, v, n))
int fsync(int fd) { REAL(fsync); return open_below(fd) && step(-1, 0, 0) ? -1 : did(real(fd), 's', fd, 0); }
int link(const char *a, const char *b) CHANGES(link, b, did(real(a, b), 'n', -1, b))
int linkat(int da, const char *a, int db, const char *b, int f) CHANGES(linkat, b, did(real(da, a, db, b, f), 'n', -1, b))
int rename(const char *a, const char *b) RENAMES(rename, real(a, b))
int renameat(int da, const char *a, int db, const char *b) RENAMES(renameat, real(da, a, db, b))
int mkdir(const char *p, mode_t m) CHANGES(mkdir, p, real(p, m))
int unlink(const char *p) CHANGES(unlink, p, real(p))
int unlinkat(int d, const char *p, int f) { REAL(unlinkat); return (d == AT_FDCWD ? below(p) : open_below(d)) && step(-1, 0, 0) ? -1 : real(d, p, f); }
int rmdir(const char *p) CHANGES(rmdir, p, real(p))
