/* The ceiling: how fast a body gets from a socket into a file at all. recv into one reused buffer of 1 MiB, pwrite.
 *
 *     ceiling write|sync|discard PORT DIRECTORY
 *
 * write: as above. sync: also fdatasync before an upload is called finished. discard: forgets the bytes; what the load
 * client reaches against it is what the load client can do. Speaks as much of tus as the load client needs, and PUT.
 */
#include "http.h"

#define UPLOADS (1 << 20)

static const char *directory;
static int discards, syncs;
static _Atomic uint32_t counter;
static uint64_t lengths[UPLOADS], offsets[UPLOADS];

/* Receive a body into a file from `offset` on; the new offset, or UINT64_MAX when the client is gone. */
static uint64_t receive(Connection *connection, int file, uint64_t offset) {
    Body body;
    ssize_t count;
    if (open_body(connection, &body)) return UINT64_MAX;
    while ((count = read_body(&body, connection->large, BUFFER_BYTES)) > 0) {
        if (!discards && pwrite(file, connection->large, (size_t)count, (off_t)offset) != count) return UINT64_MAX;
        offset += (uint64_t)count;
    }
    return count < 0 ? UINT64_MAX : offset;
}

static int open_file(const char *name, int flags) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return discards ? -1 : open(path, O_WRONLY | O_CLOEXEC | flags, 0600);
}

static int serve_request(Connection *connection) {
    const char *name = strrchr(connection->target, '/') + 1;
    uint32_t number = (uint32_t)(strtoul(name, NULL, 10) % UPLOADS);
    char made[16];
    if (!strcmp(connection->method, "HEAD") || !strcmp(connection->method, "GET"))
        return send_text(connection,
            "HTTP/1.1 200 OK\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: %llu\r\nUpload-Length: %llu\r\nContent-Length: "
            "0\r\nCache-Control: no-store\r\n\r\n",
            (unsigned long long)offsets[number], (unsigned long long)lengths[number]);
    int is_post = !strcmp(connection->method, "POST"), is_put = !strcmp(connection->method, "PUT");
    if (is_post) {
        number = ++counter % UPLOADS;
        snprintf(made, sizeof made, "%u", number);
        name = made;
        lengths[number] = header_number(connection, "Upload-Length", 0);
        offsets[number] = 0;
    }
    int file = open_file(name, is_post || is_put ? O_CREAT | O_TRUNC : 0);
    uint64_t from = is_post || is_put ? 0 : header_number(connection, "Upload-Offset", 0);
    uint64_t offset = receive(connection, file, from);
    int is_whole = is_put || offset == lengths[number];
    if (file >= 0 && syncs && is_whole) fdatasync(file);
    if (file >= 0) close(file);
    if (offset == UINT64_MAX) return -1;
    if (!is_put) offsets[number] = offset;
    return send_text(connection,
        "HTTP/1.1 %s\r\nTus-Resumable: 1.0.0\r\nLocation: /files/%s\r\nUpload-Offset: %llu\r\n%s\r\n",
        is_post || is_put ? "201 Created" : "204 No Content", name, (unsigned long long)offset,
        is_post || is_put ? "Content-Length: 0\r\n" : "");
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    discards = !strcmp(arguments[1], "discard");
    syncs = !strcmp(arguments[1], "sync");
    directory = arguments[3];
    return serve(atoi(arguments[2]), serve_request);
}
