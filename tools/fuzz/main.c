// SPDX-License-Identifier: GPL-2.0
/*
 * Sets up as root what the worker, which is nobody, needs, and then does for it
 * what only root can do. selftests/run starts it; what it prints is KTAP.
 *
 * In the environment, COWPOOL_FUZZ_TIME, _SEED, _PCS, _OUT, _SEEDS, _REPLAY and
 * _TIMES are what struct options (fuzz.h) says.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NOBODY		65534
#define MAX_TOTAL_MIB	"256"
/* A sequence that takes so many seconds, on a slow machine, never ends. */
#define HANGS_SECONDS	120

struct shared *shared;
struct options options;
int kmsg_fd;
int root_fd;

_Noreturn void die(const char *what)
{
	printf("# fuzz: %s: %s\n", what, strerror(errno));
	exit(2);
}

/**
 * own_fd() - move a descriptor out of the way of sequences
 * @fd: it
 *
 * Return: its new number.
 */
int own_fd(int fd)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS);

	if (own < 0)
		die("fcntl");
	close(fd);
	return own;
}

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

static const char *file_named(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static void options_get(void)
{
	options.seconds = number("COWPOOL_FUZZ_TIME", 60);
	options.seed = number("COWPOOL_FUZZ_SEED", 1);
	options.pcs = number("COWPOOL_FUZZ_PCS", 0);
	options.directory = getenv("COWPOOL_FUZZ_OUT") ?: "/tmp";
	options.seeds = file_named("COWPOOL_FUZZ_SEEDS");
	options.replay = file_named("COWPOOL_FUZZ_REPLAY");
	options.times = number("COWPOOL_FUZZ_TIMES", 1);
}

static bool setting_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;

	if (fd < 0)
		return false;
	written = write(fd, value, strlen(value));
	close(fd);
	return written > 0;
}

/* What is told to fail, fails silently and on behalf of the module only. */
static void injection_setup(void)
{
	static const char *const kinds[] = {
		"failslab", "fail_page_alloc", "fail_usercopy",
	};
	char start[32] = {}, size[32] = {}, end[32], path[128];
	FILE *text = fopen("/sys/module/cowpool/sections/.text", "r");
	FILE *core = fopen("/sys/module/cowpool/coresize", "r");

	if (!text || !core || !fgets(start, sizeof(start), text) ||
	    !fgets(size, sizeof(size), core))
		die("the module's place");
	fclose(text);
	fclose(core);
	snprintf(end, sizeof(end), "%#llx",
		 strtoull(start, NULL, 16) + strtoull(size, NULL, 10));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *const settings[][2] = {
			{ "verbose", "0" }, { "require-start", start },
			{ "require-end", end }, { "ignore-gfp-wait", "N" },
			{ "ignore-gfp-highmem", "N" }, { "min-order", "0" },
		};

		/* None has all of them, and some kernels have none. */
		for (size_t j = 0; j < ARRAY_SIZE(settings); j++) {
			snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s",
				 kinds[i], settings[j][0]);
			setting_write(path, settings[j][1]);
		}
	}
}

static void become_nobody(void)
{
	const struct rlimit processes = { 64, 64 }, no_core = { 0, 0 };

	setrlimit(RLIMIT_NPROC, &processes);
	setrlimit(RLIMIT_CORE, &no_core);
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		die("cannot become nobody");
	/* The files of our own in /proc are ours again. */
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* Children of children are waited for, too. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void destroy(const char *name)
{
	struct cowpool_attach attach = {};
	int fd = open(COWPOOL_DEVICE, O_RDWR | O_CLOEXEC);

	memcpy(attach.name, name, sizeof(attach.name));
	if (!ioctl(fd, COWPOOL_IOC_ATTACH, &attach))
		ioctl(fd, COWPOOL_IOC_DESTROY);
	close(fd);
}

/* Serves the worker until it ends, or makes no progress. */
static bool watch(int worker_fd)
{
	struct pollfd pollfd = { .fd = worker_fd, .events = POLLIN };
	char name[COWPOOL_NAME_SIZE];
	unsigned int idle = 0;
	uint64_t last = 0;
	ssize_t length;

	while (idle < HANGS_SECONDS) {
		if (poll(&pollfd, 1, 1000) > 0) {
			length = recv(worker_fd, name, sizeof(name), 0);
			if (length <= 0)
				return true;
			destroy(name);
			send(worker_fd, "", 1, MSG_NOSIGNAL);
		}
		idle = shared->number == last ? idle + 1 : 0;
		last = shared->number;
	}
	printf("# sequence %llu has no end\n", (unsigned long long)last);
	setting_write("/proc/sysrq-trigger", "w");
	return false;
}

static int work(void)
{
	int fds[2], status;
	pid_t pid;
	bool ended;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		die("socketpair");
	root_fd = own_fd(fds[1]);
	pid = fork();
	if (!pid) {
		close(fds[0]);
		become_nobody();
		exit(worker_run());
	}
	close(root_fd);
	ended = watch(fds[0]);
	if (!ended)
		kill(pid, SIGKILL);
	if (waitpid(pid, &status, ended ? 0 : WNOHANG) != pid || !ended)
		return 1;
	if (WIFSIGNALED(status))
		printf("# sequence %llu: the worker was killed by signal %d\n",
		       (unsigned long long)shared->number, WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(void)
{
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	options_get();
	printf("TAP version 13\n1..1\n");
	/* With a descriptor open, the module need not mount its file system again. */
	if (chmod(COWPOOL_DEVICE, 0666) || own_fd(open(COWPOOL_DEVICE, O_RDONLY)) < 0)
		die(COWPOOL_DEVICE);
	setting_write("/sys/module/cowpool/parameters/max_total_mib", MAX_TOTAL_MIB);
	injection_setup();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	kmsg_fd = open("/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (kmsg_fd < 0 || lseek(kmsg_fd, 0, SEEK_END) < 0)
		die("/dev/kmsg");
	kmsg_fd = own_fd(kmsg_fd);
	worker_setup();
	if (!cover_setup())
		die("kcov, which the kernel is to have");
	printf("# seed %llu\n", (unsigned long long)options.seed);
	status = work();
	printf("%sok 1 fuzz\n", status ? "not " : "");
	return status;
}
