/*
 * delay LISTEN_ADDRESS LISTEN_PORT SERVER_ADDRESS SERVER_PORT ROUND_TRIP_US
 *
 * Passes TCP connections on, each direction half a round trip later; a new connection's first bytes take a whole one more,
 * as the handshake would. Bandwidth is not its business: the queueing discipline of the interface sees to that. Each
 * direction holds as much as a generous window; a sender that is faster waits. Writes "ready" to standard output when it
 * listens, and ends with its parent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { segment_bytes = 65536, segments_max = 256, connections_max = 256 };

struct segment {
  long long due_ns;
  int length, done;
  char *data;
};

/* A ring of what was read of one socket and is to be written to the other. */
struct direction {
  int from, to;
  struct segment ring[segments_max];
  int first, count;
  int at_end, shut, failed;
  long long not_before_ns;
};

struct connection {
  int used, client, server;
  struct direction up, down;
};

static struct connection connections[connections_max];
static long long half_ns;
static int epoll_fd;

static long long now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void prepare(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static struct sockaddr_in address_of(const char *host, const char *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
  if (inet_pton(AF_INET, host, &a.sin_addr) != 1) die("address");
  return a;
}

/* Takes what has come, as far as there is room. */
static void take(struct direction *d, long long now) {
  while (!d->at_end && !d->failed && d->count < segments_max) {
    struct segment *s = &d->ring[(d->first + d->count) % segments_max];
    if (!s->data && !(s->data = malloc(segment_bytes))) die("malloc");
    ssize_t n = recv(d->from, s->data, segment_bytes, 0);
    if (n < 0) {
      if (errno == EAGAIN) return;
      d->failed = 1;
      return;
    }
    s->length = (int)n;
    s->done = 0;
    s->due_ns = (now > d->not_before_ns ? now : d->not_before_ns) + half_ns;
    d->count++;
    if (n == 0) d->at_end = 1;
  }
}

/* Writes what is due. Returns when the next segment is, or 0. */
static long long give(struct direction *d, long long now) {
  while (d->count > 0 && !d->failed) {
    struct segment *s = &d->ring[d->first];
    if (s->due_ns > now) return s->due_ns;
    if (s->length == 0) {
      shutdown(d->to, SHUT_WR);
      d->shut = 1;
    } else {
      ssize_t n = send(d->to, s->data + s->done, (size_t)(s->length - s->done), MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EAGAIN) return 0;
        d->failed = 1;
        return 0;
      }
      s->done += (int)n;
      if (s->done < s->length) return 0;
    }
    d->first = (d->first + 1) % segments_max;
    d->count--;
  }
  return 0;
}

static void end(struct connection *c) {
  close(c->client);
  close(c->server);
  for (int i = 0; i < segments_max; i++) {
    free(c->up.ring[i].data);
    free(c->down.ring[i].data);
  }
  memset(c, 0, sizeof *c);
}

static void begin(int client, const struct sockaddr_in *to) {
  struct connection *c = NULL;
  for (int i = 0; i < connections_max && !c; i++)
    if (!connections[i].used) c = &connections[i];
  int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (!c || server < 0 || connect(server, (const struct sockaddr *)to, sizeof *to) < 0) {
    if (server >= 0) close(server);
    close(client);
    return;
  }
  prepare(client);
  prepare(server);
  *c = (struct connection){.used = 1, .client = client, .server = server};
  c->up = (struct direction){.from = client, .to = server, .not_before_ns = now_ns() + 2 * half_ns};
  c->down = (struct direction){.from = server, .to = client};
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.ptr = c};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client, &e) || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, server, &e)) die("epoll_ctl");
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: delay LISTEN_ADDRESS PORT SERVER_ADDRESS PORT ROUND_TRIP_US\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sockaddr_in here = address_of(argv[1], argv[2]), there = address_of(argv[3], argv[4]);
  half_ns = atoll(argv[5]) * 500;
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 128)) die("listen");
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e)) die("epoll_ctl");
  puts("ready");
  fflush(stdout);
  long long next_ns = 0;
  for (;;) {
    struct epoll_event events[64];
    long long now = now_ns(), wait = next_ns > now ? next_ns - now : 0;
    struct timespec timeout = {wait / 1000000000LL, wait % 1000000000LL};
    int n = epoll_pwait2(epoll_fd, events, 64, next_ns ? &timeout : NULL, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) {
      if (events[i].data.ptr) continue;
      int client;
      while ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) begin(client, &there);
    }
    /* Few connections: each is looked at whatever woke us. */
    now = now_ns();
    next_ns = 0;
    for (int i = 0; i < connections_max; i++) {
      struct connection *c = &connections[i];
      if (!c->used) continue;
      struct direction *both[2] = {&c->up, &c->down};
      for (int k = 0; k < 2; k++) {
        struct direction *d = both[k];
        long long due;
        do {
          take(d, now);
          int before = d->count;
          due = give(d, now);
          /* What there was no room for may be taken now: nobody will tell again. */
          if (before < segments_max || d->count == before) break;
        } while (1);
        if (due && (!next_ns || due < next_ns)) next_ns = due;
      }
      if (c->up.failed || c->down.failed || (c->up.shut && c->down.shut)) end(c);
    }
  }
}
