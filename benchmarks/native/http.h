/* Just enough HTTP/1.1 for servers on the loopback: a buffered connection, one request head at a time, and bodies of a
 * known length, in chunks, or in chunks of aws-chunked. A thread serves a connection; everything blocks.
 */
#ifndef BENCHMARK_HTTP_H
#define BENCHMARK_HTTP_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_BYTES 65536
#define BUFFER_BYTES (1024 * 1024)

typedef struct {
    int fd;
    size_t start, end; /* what lies in `buffer` and was not taken */
    char buffer[HEAD_BYTES];
    char head[HEAD_BYTES]; /* the request's head, ends with NUL */
    char method[16];
    char target[4096]; /* path and query as sent */
    unsigned char *large; /* BUFFER_BYTES, for bodies */
} Connection;

/* A body: `left` bytes of the present piece; -1 in `chunked` never. */
typedef struct {
    Connection *connection;
    uint64_t left;      /* bytes until the end of the body, or of the present HTTP chunk */
    int is_chunked;     /* HTTP chunks */
    int has_ended;      /* the last HTTP chunk was read */
    int is_aws;         /* aws-chunked within */
    int aws_has_ended;
    uint64_t aws_left;
} Body;

static int fill(Connection *connection) {
    if (connection->start == connection->end) connection->start = connection->end = 0;
    if (connection->end == HEAD_BYTES) {
        if (connection->start == 0) return -1;
        memmove(connection->buffer, connection->buffer + connection->start, connection->end - connection->start);
        connection->end -= connection->start;
        connection->start = 0;
    }
    ssize_t count;
    do count = recv(connection->fd, connection->buffer + connection->end, HEAD_BYTES - connection->end, 0);
    while (count < 0 && errno == EINTR);
    if (count <= 0) return -1;
    connection->end += (size_t)count;
    return 0;
}

/* Read one request head; 0, or -1 when the client is gone or sends nonsense. */
static int read_head(Connection *connection) {
    for (;;) {
        char *found = connection->end > connection->start
            ? memmem(connection->buffer + connection->start, connection->end - connection->start, "\r\n\r\n", 4)
            : NULL;
        if (found) {
            size_t size = (size_t)(found - (connection->buffer + connection->start)) + 2;
            memcpy(connection->head, connection->buffer + connection->start, size);
            connection->head[size] = 0;
            connection->start += size + 2;
            return sscanf(connection->head, "%15s %4095s", connection->method, connection->target) == 2 ? 0 : -1;
        }
        if (fill(connection)) return -1;
    }
}

/* Return the value of a header, or NULL; ends at "\r". */
static const char *find_header(const Connection *connection, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(connection->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
        const char *at = line + 2;
        if (strncasecmp(at, name, length) == 0 && at[length] == ':') {
            at += length + 1;
            while (*at == ' ') at++;
            return at;
        }
    }
    return NULL;
}

static uint64_t header_number(const Connection *connection, const char *name, uint64_t otherwise) {
    const char *value = find_header(connection, name);
    return value ? strtoull(value, NULL, 10) : otherwise;
}

/* Send everything; -1 when the client is gone. */
static int send_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t count = send(fd, at, size, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return -1;
        at += count;
        size -= (size_t)count;
    }
    return 0;
}

static int send_text(Connection *connection, const char *format, ...) {
    char text[HEAD_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return size < 0 || (size_t)size >= sizeof text ? -1 : send_all(connection->fd, text, (size_t)size);
}

static int read_line(Connection *connection, char *line, size_t limit) {
    for (;;) {
        char *from = connection->buffer + connection->start;
        char *found = connection->end > connection->start ? memchr(from, '\n', connection->end - connection->start) : NULL;
        if (found) {
            size_t size = (size_t)(found - from);
            if (size >= limit) return -1;
            memcpy(line, from, size);
            line[size] = 0;
            if (size && line[size - 1] == '\r') line[size - 1] = 0;
            connection->start += size + 1;
            return 0;
        }
        if (fill(connection)) return -1;
    }
}

static int open_body(Connection *connection, Body *body) {
    const char *encoding = find_header(connection, "Transfer-Encoding");
    const char *content = find_header(connection, "Content-Encoding");
    const char *expect = find_header(connection, "Expect");
    memset(body, 0, sizeof *body);
    body->connection = connection;
    body->is_chunked = encoding && strncasecmp(encoding, "chunked", 7) == 0;
    body->is_aws = content && strncasecmp(content, "aws-chunked", 11) == 0;
    body->left = body->is_chunked ? 0 : header_number(connection, "Content-Length", 0);
    if (expect && strncasecmp(expect, "100-continue", 12) == 0 && (body->left || body->is_chunked))
        return send_text(connection, "HTTP/1.1 100 Continue\r\n\r\n");
    return 0;
}

/* Read up to `size` bytes as HTTP frames them; 0 at the end, -1 when the client is gone. */
static ssize_t read_framed(Body *body, unsigned char *into, size_t size) {
    Connection *connection = body->connection;
    if (body->is_chunked && body->left == 0 && !body->has_ended) {
        char line[256];
        if (read_line(connection, line, sizeof line)) return -1;
        if (!line[0] && read_line(connection, line, sizeof line)) return -1; /* the end of the chunk before */
        body->left = strtoull(line, NULL, 16);
        if (!body->left) {
            body->has_ended = 1;
            do if (read_line(connection, line, sizeof line)) return -1; /* trailers */
            while (line[0]);
        }
    }
    if (!body->left) return 0;
    if (size > body->left) size = body->left;
    ssize_t count;
    if (connection->end > connection->start) {
        size_t there = connection->end - connection->start;
        count = (ssize_t)(there < size ? there : size);
        memcpy(into, connection->buffer + connection->start, (size_t)count);
        connection->start += (size_t)count;
    } else {
        do count = recv(connection->fd, into, size, 0);
        while (count < 0 && errno == EINTR);
        if (count <= 0) return -1;
    }
    body->left -= (uint64_t)count;
    return count;
}

static int read_aws_line(Body *body, char *line, size_t limit) {
    size_t size = 0;
    unsigned char one;
    for (;;) {
        ssize_t count = read_framed(body, &one, 1);
        if (count <= 0) return -1;
        if (one == '\n') break;
        if (one != '\r' && size + 1 < limit) line[size++] = (char)one;
    }
    line[size] = 0;
    return 0;
}

/* Read up to `size` bytes of the content; 0 at the end, -1 when the client is gone. */
static ssize_t read_body(Body *body, unsigned char *into, size_t size) {
    char line[512];
    if (!body->is_aws) return read_framed(body, into, size);
    if (body->aws_has_ended) return 0;
    if (!body->aws_left) {
        if (read_aws_line(body, line, sizeof line)) return -1;
        if (!line[0] && read_aws_line(body, line, sizeof line)) return -1;
        body->aws_left = strtoull(line, NULL, 16);
        if (!body->aws_left) {
            body->aws_has_ended = 1;
            unsigned char rest[1024];
            ssize_t count;
            while ((count = read_framed(body, rest, sizeof rest)) > 0) continue; /* trailers */
            return count;
        }
    }
    if (size > body->aws_left) size = body->aws_left;
    ssize_t count = read_framed(body, into, size);
    if (count > 0) body->aws_left -= (uint64_t)count;
    return count;
}

/* Fill a buffer as far as the body goes; the count, or -1. */
static inline ssize_t read_fully(Body *body, unsigned char *into, size_t size) {
    size_t have = 0;
    while (have < size) {
        ssize_t count = read_body(body, into + have, size - have);
        if (count < 0) return -1;
        if (count == 0) break;
        have += (size_t)count;
    }
    return (ssize_t)have;
}

typedef int (*Handler)(Connection *); /* serves one request; -1 ends the connection */
static Handler handler;

static void *serve_connection(void *argument) {
    Connection *connection = argument;
    while (read_head(connection) == 0 && handler(connection) == 0) continue;
    close(connection->fd);
    free(connection->large);
    free(connection);
    return NULL;
}

/* Listen on 127.0.0.1 for ever. */
static int serve(int port, Handler each) {
    handler = each;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 2048)) {
        perror("listen");
        return 1;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Connection *connection = calloc(1, sizeof *connection);
        connection->fd = fd;
        connection->large = malloc(BUFFER_BYTES);
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve_connection, connection)) close(fd);
    }
}

#endif
