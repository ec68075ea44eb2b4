/* Runs a program in the place of this one, without some system calls, as under an old kernel or in a sandbox, and
 * without root's right to pass over the permissions of files.
 *
 *     sandbox NAME=ERRNO... -- PROGRAM [ARGUMENT...]
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALLS_MAX 16

static const struct {
    const char *name;
    unsigned number;
} calls[] = {
    {"linkat", __NR_linkat},
#ifdef __NR_rename
    {"rename", __NR_rename},
#else
    {"rename", __NR_renameat},
#endif
    {"renameat2", __NR_renameat2},
    {"statx", __NR_statx},
};

static void fail(const char *what)
{
    fprintf(stderr, "sandbox: %s: %s\n", what, strerror(errno));
    exit(125);
}

static unsigned number_of(const char *name, size_t length)
{
    for (size_t n = 0; n < sizeof calls / sizeof *calls; n++)
        if (strlen(calls[n].name) == length && memcmp(calls[n].name, name, length) == 0)
            return calls[n].number;
    errno = EINVAL;
    fail(name);
    return 0;
}

int main(int argc, char **argv)
{
    struct sock_filter filter[2 * CALLS_MAX + 2];
    unsigned short length = 0;
    int arg = 1;

    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (; arg < argc && strcmp(argv[arg], "--") != 0; arg++) {
        const char *equals = strchr(argv[arg], '=');
        if (equals == NULL || arg > CALLS_MAX) {
            errno = EINVAL;
            fail(argv[arg]);
        }
        unsigned number = number_of(argv[arg], equals - argv[arg]);
        unsigned error = atoi(equals + 1) & SECCOMP_RET_DATA;
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    if (arg + 1 >= argc) {
        errno = EINVAL;
        fail("no program");
    }

    /* Whoever is not root has none of these to lose. */
    if (geteuid() == 0 && (prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) != 0 || prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH) != 0))
        fail("capabilities");
    struct sock_fprog program = {length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp");
    execv(argv[arg + 1], argv + arg + 1);
    fail(argv[arg + 1]);
}
