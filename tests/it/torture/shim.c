/* A disk and a clock that do what the test says, between the service and the kernel (LD_PRELOAD).

   LYFTR_SHIM names a file that the test writes to and that is mapped here. Only files whose name holds "app.db" are
   touched. A failed sync takes back what was written since the last good one, as a kernel may that marks pages clean
   after an error and then drops them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The order is that of `Setting` in shim.rs. */
struct control {
    _Atomic int64_t write_errno, sync_errno, sync_delay_ms, clock_offset_s, hits, moved_sync_errno;
};

#define STEP_MS 10

static struct control *control;

/* One write since the last sync of its file: what was there before. */
struct before {
    struct before *next;
    dev_t dev;
    ino_t ino;
    off_t offset, file_size;
    size_t length, held;
    char bytes[];
};

static struct before *unsynced;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("LYFTR_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED) control = mapped;
    close(fd);
}

/* 0: no file of the database; 1: one of them; 2: the database itself, not its log. */
static int is_database(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    const char *name = strstr(path, "app.db");
    return name ? 1 + !strcmp(name, "app.db") : 0;
}

static void remember(int fd, size_t length, off_t offset) {
    struct stat file;
    struct before *before = malloc(sizeof *before + length);
    if (!before || fstat(fd, &file)) {
        free(before);
        return;
    }
    ssize_t held = pread(fd, before->bytes, length, offset);
    before->dev = file.st_dev;
    before->ino = file.st_ino;
    before->offset = offset;
    before->file_size = file.st_size;
    before->length = length;
    before->held = held > 0 ? (size_t)held : 0;
    pthread_mutex_lock(&lock);
    before->next = unsynced;
    unsynced = before;
    pthread_mutex_unlock(&lock);
}

/* Forgets the unsynced writes of a file, newest first, taking them back if so asked. */
static void settle(int fd, int take_back) {
    struct stat file;
    if (fstat(fd, &file)) return;
    pthread_mutex_lock(&lock);
    for (struct before **at = &unsynced; *at;) {
        struct before *before = *at;
        if (before->dev != file.st_dev || before->ino != file.st_ino) {
            at = &before->next;
            continue;
        }
        if (take_back) {
            syscall(SYS_pwrite64, fd, before->bytes, before->held, before->offset);
            if (before->offset + (off_t)before->length > before->file_size) (void)!ftruncate(fd, before->file_size);
        }
        *at = before->next;
        free(before);
    }
    pthread_mutex_unlock(&lock);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    if (control && is_database(fd)) {
        int64_t failure = atomic_load(&control->write_errno);
        if (failure) {
            atomic_fetch_add(&control->hits, 1);
            errno = (int)failure;
            return -1;
        }
        remember(fd, length, offset);
    }
    return syscall(SYS_pwrite64, fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

static int synced(int fd, long call) {
    int database = control ? is_database(fd) : 0;
    if (database) {
        if (atomic_load(&control->sync_delay_ms)) atomic_fetch_add(&control->hits, 1);
        /* In steps, so that it is over at once when the test says so. */
        for (int64_t slept = 0; slept < atomic_load(&control->sync_delay_ms); slept += STEP_MS) usleep(STEP_MS * 1000);
        int64_t failure = atomic_load(&control->sync_errno);
        if (!failure && database == 2) failure = atomic_load(&control->moved_sync_errno);
        if (failure) {
            atomic_fetch_add(&control->hits, 1);
            settle(fd, 1);
            errno = (int)failure;
            return -1;
        }
        settle(fd, 0);
    }
    return (int)syscall(call, fd);
}

int fsync(int fd) { return synced(fd, SYS_fsync); }

int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    if (!result && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += atomic_load(&control->clock_offset_s);
    return (int)result;
}
