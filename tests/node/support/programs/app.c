/* The workload of the tests: a static program that behaves as its arguments say, and serves one TCP port.
   It reaps its children but not orphans, as most workloads that are not an init. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int port = 8080, children, burn, memory, exit_after = -1, code, every_ms, lines, ignore_term;
static const char *deleted, *say;

static void usage(void) {
  fputs("app [--port N] [--children N] [--deleted FILE] [--burn 1] [--memory MIB] [--exit-after SECONDS]\n"
        "    [--code N] [--lines N] [--every MILLISECONDS] [--say TEXT] [--ignore-term 1]\n", stderr);
  exit(64);
}

static void options(int argc, char **argv) {
  struct { const char *name; int *number; const char **text; } known[] = {
      {"--port", &port, 0}, {"--children", &children, 0}, {"--burn", &burn, 0}, {"--memory", &memory, 0},
      {"--exit-after", &exit_after, 0}, {"--code", &code, 0}, {"--every", &every_ms, 0}, {"--lines", &lines, 0},
      {"--ignore-term", &ignore_term, 0}, {"--deleted", 0, &deleted}, {"--say", 0, &say}};
  for (int i = 1; i < argc; i += 2) {
    size_t k = 0, n = sizeof known / sizeof *known;
    while (k < n && strcmp(argv[i], known[k].name)) k++;
    if (k == n || i + 1 == argc) usage();
    if (known[k].number) *known[k].number = atoi(argv[i + 1]);
    else *known[k].text = argv[i + 1];
  }
}

static void terminated(int signal) { (void)signal; _exit(0); }

static int listener(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {INADDR_ANY}};
  int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 16)) { perror("listen"); return -1; }
  return s;
}

static void serve(int s) {
  int peer = s < 0 ? -1 : accept(s, 0, 0);
  if (peer < 0) return;
  dprintf(peer, "hello from %d\n", getpid());
  close(peer);
}

static void child(int number) {
  char name[24];
  snprintf(name, sizeof name, "worker-%d", number);
  prctl(PR_SET_NAME, name, 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  signal(SIGTERM, SIG_DFL);
  for (;;) pause();
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* Until somebody connects or something is due: pods that only wait cost nothing. */
static void rest(int s, double started, double last) {
  struct pollfd connection = {.fd = s, .events = POLLIN};
  double due = 1e9, t = now();
  if (exit_after >= 0) due = started + exit_after - t;
  if (every_ms && last + every_ms / 1e3 - t < due) due = last + every_ms / 1e3 - t;
  poll(&connection, 1, due <= 0 ? 0 : due > 3600 ? -1 : (int)(due * 1000) + 1);
}

int main(int argc, char **argv) {
  options(argc, argv);
  setvbuf(stdout, 0, _IOLBF, 0);
  signal(SIGTERM, ignore_term ? SIG_IGN : terminated);
  signal(SIGCHLD, SIG_IGN);
  if (deleted) {
    int fd = open(deleted, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "deleted but open\n", 17) != 17 || unlink(deleted)) perror(deleted);
  }
  if (memory) {
    size_t size = (size_t)memory << 20;
    char *held = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (held == MAP_FAILED) { perror("mmap"); return 1; }
    memset(held, 1, size);
  }
  for (int i = 0; i < children; i++) if (fork() == 0) child(i);
  for (int i = 0; i < lines; i++) printf("line %d\n", i);
  int s = port ? listener() : -1;
  printf("%s\n", say ? say : "ready");
  double started = now(), last = started;
  for (long tick = 0;;) {
    double t = now();
    if (exit_after >= 0 && t - started >= exit_after) { printf("leaving with %d\n", code); return code; }
    if (every_ms && (t - last) * 1000 >= every_ms) { last = t; printf("tick %ld\n", tick++); }
    serve(s);
    if (!burn) rest(s, started, last);
  }
}
