/* The load client: one thread, epoll, bodies by sendfile from a file that should lie in memory.
 *
 *     load upload|put|create|head|slow OPTION...
 *
 * upload  each connection creates an upload and sends it in PATCHes of --chunk bytes
 * put     each connection sends the body by one PUT to <path>/<number>
 * create  --requests creations that carry --size bytes in the same request, shared by the connections
 * head    --requests HEADs of --path, shared by the connections
 * slow    as upload, but each connection sends --rate bytes a second, 8 a second at most; beside them one connection
 *         asks HEAD of --probe every --interval milliseconds
 *
 * Prints one JSON object: seconds, cpu_seconds (its own), requests, locations, keys, and what went wrong. A creation
 * answers 201; everything else 2xx. Waiting for an answer longer than --timeout seconds is an error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 16384
#define TICKS_PER_SECOND 8
#define SAMPLES (1 << 20)

enum Mode { UPLOAD, PUT, CREATE, HEAD, SLOW };
enum State { IDLE, SENDING_HEAD, SENDING_BODY, READING, DONE };
enum Step { CREATING, APPENDING, PUTTING, POSTING, ASKING };

typedef struct {
    int fd, number, is_probe, is_kept; /* is_kept: the connection outlives the answer */
    enum State state;
    enum Step step;
    char head[HEAD_BYTES];
    size_t head_size, head_sent;
    uint64_t body_from, body_size, body_sent; /* of the present request, in the upload's coordinates */
    uint64_t offset;                          /* of the upload */
    double asked_at, due_at, created_at, finished_at;
    char answer[HEAD_BYTES];
    size_t answer_size;
    char location[1024], key[1024];
    uint32_t events;
} Client;

static enum Mode mode;
static int port, payload = -1, connections = 1, epoll, living;
static uint64_t payload_size, size, chunk, requests, asked, answered, rate, interval = 50;
static const char *path = "/files/", *probe_path, *metadata, *extra[32], *creation_extra = "";
static int extras;
static double timeout = 120, started;
static Client *clients;
static char failure[2048];
static int failures;
static double *samples;
static size_t sample_count;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char one = (unsigned char)*text;
        if (one == '"' || one == '\\') printf("\\%c", one);
        else if (one < 32 || one > 126) printf("\\u%04x", one);
        else putchar(one);
    }
    putchar('"');
}

static void want(Client *client, uint32_t events) {
    if (client->events == events) return;
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(epoll, client->events == UINT32_MAX ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, client->fd, &event);
    client->events = events;
}

static void finish(Client *client) {
    if (client->state == DONE) return;
    client->state = DONE;
    client->finished_at = now();
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
    if (!client->is_probe) living--;
}

static void fail(Client *client, const char *why) {
    failures++;
    if (!failure[0]) {
        client->answer[client->answer_size < HEAD_BYTES ? client->answer_size : HEAD_BYTES - 1] = 0;
        char *method_end = strchr(client->head, '\r');
        snprintf(failure, sizeof failure, "connection %d, %.*s, offset %llu: %s (%s): %.600s", client->number,
            method_end ? (int)(method_end - client->head) : 0, client->head, (unsigned long long)client->offset, why,
            strerror(errno), client->answer);
    }
    finish(client);
}

static int dial(Client *client) {
    if (client->fd >= 0) close(client->fd);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    client->events = UINT32_MAX;
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) return -1;
    return 0;
}

/* Begin a request; its body is `count` bytes of the payload from `from` on. */
static void ask(Client *client, enum Step step, const char *method, const char *target, uint64_t from, uint64_t count) {
    client->step = step;
    client->body_from = from;
    client->body_size = count;
    client->body_sent = client->head_sent = client->answer_size = 0;
    int at = snprintf(client->head, HEAD_BYTES, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nTus-Resumable: 1.0.0\r\n", method,
        target, port);
    for (int i = 0; i < extras; i++) at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "%s\r\n", extra[i]);
    if (step == CREATING || step == POSTING) {
        at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "Upload-Length: %llu\r\n%s", (unsigned long long)size,
            creation_extra);
        if (metadata) at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "Upload-Metadata: %s\r\n", metadata);
    }
    if (step == APPENDING) at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "Upload-Offset: %llu\r\n",
                               (unsigned long long)from);
    if (step == APPENDING || step == POSTING)
        at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "Content-Type: application/offset+octet-stream\r\n");
    if (step != ASKING)
        at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "Content-Length: %llu\r\n", (unsigned long long)count);
    at += snprintf(client->head + at, HEAD_BYTES - (size_t)at, "\r\n");
    client->head_size = (size_t)at;
    client->state = SENDING_HEAD;
    client->asked_at = now();
    if (!client->is_kept && dial(client)) {
        fail(client, "cannot connect");
        return;
    }
    want(client, EPOLLOUT);
}

static const char *local_path(const char *location) {
    const char *scheme = strstr(location, "://");
    const char *slash = scheme ? strchr(scheme + 3, '/') : location;
    return slash ? slash : location;
}

/* Begin what comes next on a connection, or end it. */
static void proceed(Client *client) {
    char target[1100];
    if (client->is_probe) {
        ask(client, ASKING, "HEAD", probe_path, 0, 0);
    } else if (mode == HEAD) {
        if (asked++ < requests) ask(client, ASKING, "HEAD", path, 0, 0);
        else finish(client);
    } else if (mode == CREATE) {
        if (asked++ < requests) ask(client, POSTING, "POST", path, 0, size);
        else finish(client);
    } else if (mode == PUT) {
        snprintf(target, sizeof target, "%s%d", path, client->number);
        snprintf(client->location, sizeof client->location, "%s", target);
        if (client->offset == 0 && client->answer_size == 0) ask(client, PUTTING, "PUT", target, 0, size);
        else finish(client);
    } else if (!client->location[0]) {
        ask(client, CREATING, "POST", path, 0, 0);
    } else if (client->offset < size) {
        uint64_t count = size - client->offset < chunk ? size - client->offset : chunk;
        ask(client, APPENDING, "PATCH", local_path(client->location), client->offset, count);
    } else {
        finish(client);
    }
}

static const char *header(const char *answer, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(answer, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            const char *at = line + 3 + length;
            while (*at == ' ') at++;
            return at;
        }
    return NULL;
}

static void copy_value(char *into, size_t limit, const char *value) {
    size_t length = value ? strcspn(value, "\r") : 0;
    if (length >= limit) length = limit - 1;
    memcpy(into, value ? value : "", length);
    into[length] = 0;
}

static void take_sample(double milliseconds) {
    /* Questions that could not be put while an answer was awaited count as well, as if they had been put on time. */
    for (double each = milliseconds; each > 0 && sample_count < SAMPLES; each -= (double)interval) {
        samples[sample_count++] = each;
        if (!interval) break;
    }
}

static void take_answer(Client *client) {
    int status = atoi(client->answer + 9);
    double at = now();
    const char *value = header(client->answer, "Connection");
    client->is_kept = !(value && strncasecmp(value, "close", 5) == 0);
    if (client->is_probe) {
        take_sample((at - client->asked_at) * 1000);
        if (status / 100 != 2) {
            fail(client, "the probe was refused");
            return;
        }
        client->due_at = client->asked_at + (double)interval / 1000;
        client->state = IDLE;
        if (client->is_kept) want(client, 0);
        return;
    }
    answered++;
    if (status / 100 != 2 || ((client->step == CREATING || client->step == POSTING) && status != 201)) {
        fail(client, "an unexpected answer");
        return;
    }
    if (client->step == CREATING || client->step == POSTING) {
        copy_value(client->location, sizeof client->location, header(client->answer, "Location"));
        copy_value(client->key, sizeof client->key, header(client->answer, "Async-Upload-Key"));
        client->created_at = at;
        if (!client->location[0]) {
            fail(client, "no Location");
            return;
        }
    }
    if (client->step == APPENDING || client->step == PUTTING) {
        client->offset += client->body_size;
        value = header(client->answer, "Upload-Offset");
        if (client->step == APPENDING && (!value || strtoull(value, NULL, 10) != client->offset)) {
            fail(client, "another Upload-Offset");
            return;
        }
    }
    if (mode == SLOW && client->step == CREATING) {
        /* All begin together when each is created. */
        client->state = IDLE;
        if (client->is_kept) want(client, 0);
        return;
    }
    if (client->step == POSTING && mode == CREATE && requests <= 0) finish(client);
    else proceed(client);
}

/* Whether the answer is complete; its body, if any, is thrown away with it. */
static int is_complete(Client *client) {
    client->answer[client->answer_size] = 0;
    char *end = strstr(client->answer, "\r\n\r\n");
    if (!end) return 0;
    int status = atoi(client->answer + 9);
    if (status / 100 == 1) { /* 100 Continue */
        size_t rest = client->answer_size - (size_t)(end + 4 - client->answer);
        memmove(client->answer, end + 4, rest);
        client->answer_size = rest;
        return rest ? is_complete(client) : 0;
    }
    if (client->step == ASKING || status == 204) return 1;
    const char *length = header(client->answer, "Content-Length"), *coding = header(client->answer, "Transfer-Encoding");
    if (coding) return client->answer_size >= 5 && !memcmp(client->answer + client->answer_size - 5, "0\r\n\r\n", 5);
    return client->answer_size - (size_t)(end + 4 - client->answer) >= (length ? strtoull(length, NULL, 10) : 0);
}

static void read_answer(Client *client) {
    ssize_t count = recv(client->fd, client->answer + client->answer_size, HEAD_BYTES - 1 - client->answer_size, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        if (count == 0) errno = 0;
        fail(client, "the server hung up");
        return;
    }
    client->answer_size += (size_t)count;
    if (is_complete(client)) take_answer(client);
    else if (client->answer_size == HEAD_BYTES - 1) fail(client, "too long an answer");
}

/* Send of the body what the socket takes, at most `limit` bytes; 0 when there is more to send. */
static int send_body(Client *client, uint64_t limit) {
    while (limit && client->body_sent < client->body_size) {
        off_t at = (off_t)((client->body_from + client->body_sent) % payload_size);
        uint64_t count = client->body_size - client->body_sent;
        if (count > limit) count = limit;
        if (count > payload_size - (uint64_t)at) count = payload_size - (uint64_t)at;
        ssize_t sent = sendfile(client->fd, payload, &at, count);
        if (sent < 0 && errno == EAGAIN) return 0;
        if (sent <= 0) {
            /* A server may answer and hang up; the answer says why. */
            client->state = READING;
            want(client, EPOLLIN);
            return 0;
        }
        client->body_sent += (uint64_t)sent;
        limit -= (uint64_t)sent;
    }
    if (client->body_sent < client->body_size) return 0;
    client->state = READING;
    want(client, EPOLLIN);
    return 1;
}

static void turn(Client *client, uint32_t events) {
    if (client->state == SENDING_HEAD && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int flags = MSG_NOSIGNAL | (client->body_size && mode != SLOW ? MSG_MORE : 0);
        ssize_t count = send(client->fd, client->head + client->head_sent, client->head_size - client->head_sent, flags);
        if (count < 0 && errno == EAGAIN) return;
        if (count < 0) {
            fail(client, "cannot send");
            return;
        }
        client->head_sent += (size_t)count;
        if (client->head_sent < client->head_size) return;
        client->state = SENDING_BODY;
        if (mode == SLOW && client->step == APPENDING) {
            want(client, EPOLLIN);
            return;
        }
    }
    if (client->state == SENDING_BODY && !(mode == SLOW && client->step == APPENDING)) {
        if (send_body(client, UINT64_MAX)) return;
    } else if (client->state == SENDING_BODY && events & EPOLLIN) {
        client->state = READING; /* an answer before the end */
    }
    if (client->state == READING && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) read_answer(client);
    else if (client->state == IDLE && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        client->is_kept = 0; /* a server that does not keep idle connections */
        close(client->fd);
        client->fd = -1;
    }
}

static double patched_at;

/* What time alone brings about; returns the milliseconds until it is due again. */
static int tick(void) {
    double at = now();
    if (mode != SLOW) return 1000;
    int waiting = 0;
    for (int i = 0; i < connections; i++)
        waiting += clients[i].state == IDLE || clients[i].state == DONE;
    if (!patched_at && waiting == connections) {
        patched_at = at;
        for (int i = 0; i < connections; i++)
            if (clients[i].state == IDLE) {
                clients[i].due_at = at + (double)i / connections / TICKS_PER_SECOND;
                proceed(&clients[i]);
            }
    }
    for (int i = 0; patched_at && i < connections; i++) {
        Client *client = &clients[i];
        if (client->state != SENDING_BODY || client->step != APPENDING || client->due_at > at) continue;
        client->due_at += 1.0 / TICKS_PER_SECOND;
        send_body(client, rate / TICKS_PER_SECOND);
    }
    Client *probe = &clients[connections];
    if (probe_path && probe->state == IDLE && probe->due_at <= at) proceed(probe);
    return 2;
}

static int compare(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return difference < 0 ? -1 : difference > 0;
}

static void report(void) {
    double first = 1e300, last = 0, created = 0;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    for (int i = 0; i < connections; i++) {
        if (clients[i].finished_at > last) last = clients[i].finished_at;
        if (clients[i].created_at > created) created = clients[i].created_at;
        if (clients[i].created_at && clients[i].created_at < first) first = clients[i].created_at;
    }
    printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"requests\": %llu, \"failures\": %d, \"failure\": ", last - started,
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
        (unsigned long long)answered, failures);
    print_text(failure);
    printf(", \"created_seconds\": %.6f, \"locations\": [", created ? created - started : 0);
    for (int i = 0; i < connections; i++) {
        if (i) printf(", ");
        print_text(clients[i].location);
    }
    printf("], \"keys\": [");
    for (int i = 0; i < connections; i++) {
        if (i) printf(", ");
        print_text(clients[i].key);
    }
    printf("]");
    if (sample_count) {
        qsort(samples, sample_count, sizeof *samples, compare);
        printf(", \"probe\": {\"count\": %zu, \"p50\": %.2f, \"p95\": %.2f, \"max\": %.2f}", sample_count,
            samples[sample_count / 2], samples[sample_count * 95 / 100], samples[sample_count - 1]);
    }
    printf("}\n");
}

static void read_options(int count, char **arguments) {
    static const char *modes[] = {"upload", "put", "create", "head", "slow"};
    int known = 0;
    for (int i = 0; i < 5 && count > 1; i++)
        if (!strcmp(arguments[1], modes[i])) mode = (enum Mode)i, known = 1;
    for (int i = 2; known && i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (!strcmp(name, "--port")) port = atoi(value);
        else if (!strcmp(name, "--path")) path = value;
        else if (!strcmp(name, "--payload")) payload = open(value, O_RDONLY | O_CLOEXEC);
        else if (!strcmp(name, "--size")) size = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--chunk")) chunk = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--connections")) connections = atoi(value);
        else if (!strcmp(name, "--requests")) requests = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--rate")) rate = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--probe")) probe_path = value;
        else if (!strcmp(name, "--interval")) interval = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--timeout")) timeout = atof(value);
        else if (!strcmp(name, "--metadata")) metadata = value;
        else if (!strcmp(name, "--header") && extras < 32) extra[extras++] = value;
        else known = 0;
    }
    struct stat status;
    if (!known || !port || (payload >= 0 && fstat(payload, &status))) {
        fprintf(stderr, "See the beginning of load.c.\n");
        exit(2);
    }
    payload_size = payload >= 0 ? (uint64_t)status.st_size : 1;
    if (!chunk) chunk = size;
    if (!size && mode != HEAD) exit(2);
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    samples = malloc(SAMPLES * sizeof *samples);
    clients = calloc((size_t)connections + 1, sizeof *clients);
    for (int i = 0; i <= connections; i++) {
        clients[i].fd = -1;
        clients[i].number = i;
    }
    living = connections;
    clients[connections].is_probe = 1;
    started = now();
    for (int i = 0; i < connections; i++) proceed(&clients[i]);
    static struct epoll_event events[256];
    while (living > 0) {
        int due = tick();
        int found = epoll_wait(epoll, events, 256, due);
        for (int i = 0; i < found; i++) turn(events[i].data.ptr, events[i].events);
        double at = found ? 0 : now();
        for (int i = 0; !found && i <= connections; i++)
            if (clients[i].state == READING && at - clients[i].asked_at > timeout + (rate ? (double)(size / rate) : 0)) {
                errno = ETIMEDOUT;
                fail(&clients[i], "no answer");
            }
    }
    report();
    return failures ? 1 : 0;
}
