/* An S3 and an Azure Blob Storage that forget: it checks what it is given, keeps small objects and the sums of large ones, and answers.
 *
 *     sink serve PORT LATENCY_MS      every answer waits so long, after the request was read
 *     sink sum FILE BYTES             print the sum of so many bytes, the file repeated as often as needed
 *
 * CreateMultipartUpload, UploadPart, ListParts, CompleteMultipartUpload, AbortMultipartUpload, PutObject (If-None-Match
 * too), GetObject, HeadObject, DeleteObject(s), for any bucket and any signature; requests with the header x-ms-version
 * are Azure's, see `azure.h`. GET /_state answers the requests per
 * operation since the last POST /_reset, and every object: its key, size and sum, as JSON; POST /_latency/N changes the
 * latency. The sum of an object is the CRC-32C of its bytes, combined from those of its parts, so a part that is
 * missing, changed or in the wrong place shows.
 */
#include "http.h"

#include <time.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define KEPT_BYTES (16u << 20) /* larger objects are not kept */
#define PARTS 10001

typedef struct Block { /* of an Azure blob that is not committed yet */
    char id[256];
    uint64_t size;
    uint32_t sum;
    struct Block *next;
} Block;

typedef struct Object {
    char *key;
    uint64_t size;
    uint32_t sum;
    unsigned char *content; /* or NULL */
    char etag[64];
    char *metadata; /* its lines of headers */
    Block *blocks;
    struct Object *next;
} Object;

typedef struct Multipart {
    char *key;
    uint32_t id;
    uint64_t sizes[PARTS];
    uint32_t sums[PARTS];
    unsigned char is_there[PARTS];
    struct Multipart *next;
} Multipart;

enum Operation { CREATE, PART, LIST, COMPLETE, ABORT, PUT, GET, HEAD, DELETE, PUT_BLOCK, PUT_BLOCK_LIST, GET_BLOCK_LIST,
    PUT_BLOB, APPEND_BLOCK, SET_METADATA, GET_PROPERTIES, OTHER, OPERATIONS };
static const char *names[] = {"CreateMultipartUpload", "UploadPart", "ListParts", "CompleteMultipartUpload",
    "AbortMultipartUpload", "PutObject", "GetObject", "HeadObject", "DeleteObject", "PutBlock", "PutBlockList",
    "GetBlockList", "PutBlob", "AppendBlock", "SetBlobMetadata", "GetBlobProperties", "Other"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Object *objects, *staged; /* committed, and what has only blocks yet */
static Multipart *multiparts;
static uint32_t last_id;
static uint64_t counts[OPERATIONS], bytes_received;
static _Atomic int latency;
static uint32_t table[256];

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t sum_fast(uint32_t sum, const unsigned char *data, size_t size) {
    uint64_t state = ~sum;
    for (; size >= 8; size -= 8, data += 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        state = _mm_crc32_u64(state, word);
    }
    while (size--) state = _mm_crc32_u8((uint32_t)state, *data++);
    return ~(uint32_t)state;
}
#endif

static uint32_t sum_bytes(uint32_t sum, const unsigned char *data, size_t size) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return sum_fast(sum, data, size);
#endif
    sum = ~sum;
    while (size--) sum = table[(sum ^ *data++) & 255] ^ sum >> 8;
    return ~sum;
}

/* The product of a polynomial over GF(2) with x, modulo that of CRC-32C (reflected). */
static uint32_t times(uint32_t one, uint32_t other) {
    uint32_t product = 0;
    for (int i = 31; i >= 0; i--) {
        if (one >> i & 1) product ^= other;
        other = other & 1 ? other >> 1 ^ 0x82f63b78u : other >> 1;
    }
    return product;
}

/* The sum of two pieces in a row: that of the first, moved by the bytes of the second, plus that of the second. */
static uint32_t combine(uint32_t first, uint32_t second, uint64_t size) {
    uint32_t power = 0x40000000u, result = 0x80000000u; /* x, 1 */
    for (uint64_t bits = size * 8; bits; bits >>= 1) {
        if (bits & 1) result = times(result, power);
        power = times(power, power);
    }
    return times(result, first) ^ second;
}

static void wait_latency(void) {
    struct timespec pause = {.tv_sec = latency / 1000, .tv_nsec = latency % 1000 * 1000000L};
    if (latency) nanosleep(&pause, NULL);
}

static int answer(Connection *connection, const char *status, const char *headers, const char *body) {
    wait_latency();
    return send_text(connection, "HTTP/1.1 %s\r\nServer: sink\r\nx-amz-request-id: 0\r\n%sContent-Type: application/xml\r\n"
        "Content-Length: %zu\r\n\r\n%s", status, headers, strlen(body), body);
}

static int refuse(Connection *connection, const char *status, const char *code) {
    char body[512];
    snprintf(body, sizeof body, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    return answer(connection, status, "", strcmp(connection->method, "HEAD") ? body : "");
}

static void count(enum Operation operation) {
    pthread_mutex_lock(&lock);
    counts[operation]++;
    pthread_mutex_unlock(&lock);
}

static Multipart *find_multipart(const char *id) {
    uint32_t number = (uint32_t)strtoul(id, NULL, 10);
    for (Multipart *each = multiparts; each; each = each->next)
        if (each->id == number) return each;
    return NULL;
}

static Object **find_in(Object **list, const char *key) {
    while (*list && strcmp((*list)->key, key)) list = &(*list)->next;
    return list;
}

static Object **find_object(const char *key) {
    return find_in(&objects, key);
}

static void remove_object(Object **place) {
    Object *object = *place;
    if (!object) return;
    *place = object->next;
    for (Block *each = object->blocks, *next; each; each = next) {
        next = each->next;
        free(each);
    }
    free(object->key);
    free(object->content);
    free(object->metadata);
    free(object);
}

/* Take the place of the object of this key; the lock is held. */
static Object *add_object(const char *key, uint64_t size, uint32_t sum, unsigned char *content) {
    remove_object(find_object(key));
    Object *object = calloc(1, sizeof *object);
    *object = (Object){.key = strdup(key), .size = size, .sum = sum, .content = content, .next = objects};
    return objects = object;
}

static void remove_multipart(Multipart *multipart) {
    for (Multipart **each = &multiparts; *each; each = &(*each)->next)
        if (*each == multipart) {
            *each = multipart->next;
            free(multipart->key);
            free(multipart);
            return;
        }
}

/* Read a body to its end; keeps it in *content if that is not NULL and it is small. -1: the client is gone. */
static int64_t receive(Connection *connection, uint32_t *sum, unsigned char **content) {
    Body body;
    ssize_t size;
    uint64_t total = 0;
    size_t room = 0;
    *sum = 0;
    if (content) *content = NULL;
    if (open_body(connection, &body)) return -1;
    while ((size = read_fully(&body, connection->large, BUFFER_BYTES)) > 0) {
        *sum = sum_bytes(*sum, connection->large, (size_t)size);
        if (content && total + (uint64_t)size <= KEPT_BYTES) {
            if (total + (size_t)size + 1 > room) *content = realloc(*content, room = total + (size_t)size + 1 + room);
            memcpy(*content + total, connection->large, (size_t)size);
            (*content)[total + (size_t)size] = 0;
        }
        total += (uint64_t)size;
    }
    if (content && total > KEPT_BYTES) {
        free(*content);
        *content = NULL;
    }
    pthread_mutex_lock(&lock);
    bytes_received += total;
    pthread_mutex_unlock(&lock);
    return size < 0 ? -1 : (int64_t)total;
}

static const char *query_value(const char *query, const char *name) {
    size_t length = strlen(name);
    for (const char *at = query; at; at = strchr(at, '&')) {
        if (*at == '&') at++;
        if (!strncmp(at, name, length) && (at[length] == '=' || at[length] == '&' || !at[length]))
            return at[length] == '=' ? at + length + 1 : at + length;
    }
    return NULL;
}

static int upload_part(Connection *connection, const char *query) {
    unsigned long number = strtoul(query_value(query, "partNumber"), NULL, 10);
    uint32_t sum;
    char headers[128];
    int64_t size = receive(connection, &sum, NULL);
    if (size < 0) return -1;
    count(PART);
    if (number < 1 || number >= PARTS) return refuse(connection, "400 Bad Request", "InvalidArgument");
    pthread_mutex_lock(&lock);
    Multipart *multipart = find_multipart(query_value(query, "uploadId"));
    if (multipart) {
        multipart->sizes[number] = (uint64_t)size;
        multipart->sums[number] = sum;
        multipart->is_there[number] = 1;
    }
    pthread_mutex_unlock(&lock);
    if (!multipart) return refuse(connection, "404 Not Found", "NoSuchUpload");
    snprintf(headers, sizeof headers, "ETag: \"%08x%024llx\"\r\n", sum, (unsigned long long)size);
    return answer(connection, "200 OK", headers, "");
}

static int list_parts(Connection *connection, const char *query) {
    size_t room = 4096, at = 0;
    char *body = malloc(room);
    count(LIST);
    pthread_mutex_lock(&lock);
    Multipart *multipart = find_multipart(query_value(query, "uploadId"));
    at += (size_t)sprintf(body, "<?xml version=\"1.0\"?><ListPartsResult><IsTruncated>false</IsTruncated>");
    for (int i = 1; multipart && i < PARTS; i++)
        if (multipart->is_there[i]) {
            if (at + 512 > room) body = realloc(body, room *= 2);
            at += (size_t)sprintf(body + at, "<Part><PartNumber>%d</PartNumber><LastModified>2026-01-01T00:00:00.000Z"
                "</LastModified><ETag>\"%08x%024llx\"</ETag><Size>%llu</Size></Part>", i, multipart->sums[i],
                (unsigned long long)multipart->sizes[i], (unsigned long long)multipart->sizes[i]);
        }
    sprintf(body + at, "</ListPartsResult>");
    pthread_mutex_unlock(&lock);
    if (!multipart) {
        free(body);
        return refuse(connection, "404 Not Found", "NoSuchUpload");
    }
    wait_latency();
    int failed = send_text(connection, "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %zu\r\n\r\n",
        strlen(body)) || send_all(connection->fd, body, strlen(body));
    free(body);
    return failed ? -1 : 0;
}

static int complete(Connection *connection, const char *key, const char *query) {
    uint32_t sum, whole = 0;
    unsigned char *content;
    uint64_t size = 0;
    int parts = 0, last = 0, is_wrong = 0;
    char body[2048], etag[64] = "";
    if (receive(connection, &sum, &content) < 0) return -1;
    count(COMPLETE);
    pthread_mutex_lock(&lock);
    Multipart *multipart = find_multipart(query_value(query, "uploadId"));
    for (const char *at = (char *)content; multipart && at && (at = strstr(at, "<Part>")); at += 6) {
        const char *number = strstr(at, "<PartNumber>"), *mark = strstr(at, "<ETag>");
        int part = number ? atoi(number + 12) : 0;
        char wanted[64];
        if (part <= last || part >= PARTS || !multipart->is_there[part] || !mark) {
            is_wrong = 1;
            break;
        }
        snprintf(wanted, sizeof wanted, "%08x%024llx", multipart->sums[part], (unsigned long long)multipart->sizes[part]);
        const char *end = strstr(mark, "</ETag>"), *there = strstr(mark, wanted);
        is_wrong |= !end || !there || there > end;
        whole = combine(whole, multipart->sums[part], multipart->sizes[part]);
        size += multipart->sizes[part];
        last = part;
        parts++;
    }
    if (multipart && parts && !is_wrong) {
        Object *object = add_object(key, size, whole, NULL);
        snprintf(object->etag, sizeof object->etag, "%08x%024llx-%d", whole, (unsigned long long)size, parts);
        strcpy(etag, object->etag);
        remove_multipart(multipart);
    }
    pthread_mutex_unlock(&lock);
    free(content);
    if (!multipart) return refuse(connection, "404 Not Found", "NoSuchUpload");
    if (!etag[0]) return refuse(connection, "400 Bad Request", "InvalidPart");
    snprintf(body, sizeof body, "<?xml version=\"1.0\"?><CompleteMultipartUploadResult><Location>http://127.0.0.1/</Location>"
        "<ETag>\"%s\"</ETag></CompleteMultipartUploadResult>", etag);
    return answer(connection, "200 OK", "", body);
}

static int create(Connection *connection, const char *key) {
    uint32_t sum;
    char body[8192];
    if (receive(connection, &sum, NULL) < 0) return -1;
    count(CREATE);
    Multipart *multipart = calloc(1, sizeof *multipart);
    multipart->key = strdup(key);
    pthread_mutex_lock(&lock);
    multipart->id = ++last_id;
    multipart->next = multiparts;
    multiparts = multipart;
    pthread_mutex_unlock(&lock);
    const char *slash = strchr(key + 1, '/');
    snprintf(body, sizeof body, "<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>%s</Key>"
        "<UploadId>%u</UploadId></InitiateMultipartUploadResult>", slash ? slash + 1 : key, multipart->id);
    return answer(connection, "200 OK", "", body);
}

/* Copy the lines of a request's head that are the object's own metadata. */
static char *copy_metadata(const Connection *connection) {
    char *found = calloc(1, strlen(connection->head) + 1);
    for (const char *line = strstr(connection->head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "x-amz-meta-", 11) || !strncasecmp(line + 2, "x-ms-meta-", 10))
            strncat(found, line + 2, strcspn(line + 2, "\r") + 2);
    return found;
}

static int put(Connection *connection, const char *key) {
    uint32_t sum;
    unsigned char *content;
    char headers[128];
    const char *condition = find_header(connection, "If-None-Match");
    int is_conditional = condition && *condition == '*';
    int64_t size = receive(connection, &sum, &content);
    if (size < 0) return -1;
    count(PUT);
    pthread_mutex_lock(&lock);
    int is_there = is_conditional && *find_object(key);
    if (!is_there) {
        Object *object = add_object(key, (uint64_t)size, sum, content);
        object->metadata = copy_metadata(connection);
        snprintf(object->etag, sizeof object->etag, "%08x%024llx", sum, (unsigned long long)size);
    }
    pthread_mutex_unlock(&lock);
    if (is_there) {
        free(content);
        return refuse(connection, "412 Precondition Failed", "PreconditionFailed");
    }
    snprintf(headers, sizeof headers, "ETag: \"%08x%024llx\"\r\n", sum, (unsigned long long)size);
    return answer(connection, "200 OK", headers, "");
}

static int get(Connection *connection, const char *key, int has_body) {
    char etag[64] = "";
    unsigned char *copy = NULL;
    char metadata[HEAD_BYTES / 2] = "";
    uint64_t size = 0, from = 0, to;
    count(has_body ? GET : HEAD);
    pthread_mutex_lock(&lock);
    Object *object = *find_object(key);
    if (object) {
        strcpy(etag, object->etag);
        size = object->size;
        if (object->metadata) snprintf(metadata, sizeof metadata, "%s", object->metadata);
        if (has_body && object->content) copy = memcpy(malloc(size + 1), object->content, size);
    }
    pthread_mutex_unlock(&lock);
    if (!etag[0]) return refuse(connection, "404 Not Found", has_body ? "NoSuchKey" : "NotFound");
    if (has_body && size && !copy) return refuse(connection, "500 Internal Server Error", "NotKept");
    const char *range = find_header(connection, "Range");
    to = size ? size - 1 : 0;
    int is_range = range && size && sscanf(range, "bytes=%lu-%lu", (unsigned long *)&from, (unsigned long *)&to) >= 1;
    if (to >= size && size) to = size - 1;
    uint64_t length = size ? to - from + 1 : 0;
    wait_latency();
    char extent[128] = "";
    if (is_range) snprintf(extent, sizeof extent, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)from,
        (unsigned long long)to, (unsigned long long)size);
    int failed = send_text(connection, "HTTP/1.1 %s\r\nETag: \"%s\"\r\n%s%sAccept-Ranges: bytes\r\nLast-Modified: "
        "Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: binary/octet-stream\r\nContent-Length: %llu\r\n\r\n",
        is_range ? "206 Partial Content" : "200 OK", etag, extent, metadata, (unsigned long long)length);
    if (!failed && copy && has_body) failed = send_all(connection->fd, copy + from, length);
    free(copy);
    return failed ? -1 : 0;
}

#include "azure.h"

static int show_state(Connection *connection) {
    size_t room = 8192, at = 0;
    char *body = malloc(room);
    pthread_mutex_lock(&lock);
    at += (size_t)sprintf(body, "{\"bytes\": %llu, \"requests\": {", (unsigned long long)bytes_received);
    for (int i = 0, is_first = 1; i < OPERATIONS; i++)
        if (counts[i]) {
            at += (size_t)sprintf(body + at, "%s\"%s\": %llu", is_first ? "" : ", ", names[i], (unsigned long long)counts[i]);
            is_first = 0;
        }
    at += (size_t)sprintf(body + at, "}, \"objects\": [");
    for (Object *each = objects; each; each = each->next) {
        if (at + strlen(each->key) + 256 > room) body = realloc(body, room = room * 2 + strlen(each->key));
        at += (size_t)sprintf(body + at, "%s{\"key\": \"%s\", \"size\": %llu, \"sum\": %u}", each == objects ? "" : ", ",
            each->key, (unsigned long long)each->size, each->sum);
    }
    sprintf(body + at, "]}");
    pthread_mutex_unlock(&lock);
    int failed = send_text(connection, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
        strlen(body)) || send_all(connection->fd, body, strlen(body));
    free(body);
    return failed ? -1 : 0;
}

static int reset(Connection *connection) {
    pthread_mutex_lock(&lock);
    while (objects) remove_object(&objects);
    while (multiparts) remove_multipart(multiparts);
    while (staged) remove_object(&staged);
    memset(counts, 0, sizeof counts);
    bytes_received = 0;
    pthread_mutex_unlock(&lock);
    return send_text(connection, "HTTP/1.1 204 No Content\r\n\r\n");
}

static int serve_request(Connection *connection) {
    char *question = strchr(connection->target, '?');
    const char *method = connection->method, *query = question ? question + 1 : "", *key = connection->target;
    uint32_t sum;
    if (question) *question = 0;
    if (!strcmp(key, "/_state")) return show_state(connection);
    if (!strcmp(key, "/_reset")) return reset(connection);
    if (!strncmp(key, "/_latency/", 10)) {
        latency = atoi(key + 10);
        return send_text(connection, "HTTP/1.1 204 No Content\r\n\r\n");
    }
    if (find_header(connection, "x-ms-version")) return serve_azure(connection, key, query);
    if (query_value(query, "uploadId")) {
        if (!strcmp(method, "PUT")) return upload_part(connection, query);
        if (!strcmp(method, "GET")) return list_parts(connection, query);
        if (!strcmp(method, "POST")) return complete(connection, key, query);
        count(ABORT);
        pthread_mutex_lock(&lock);
        Multipart *multipart = find_multipart(query_value(query, "uploadId"));
        if (multipart) remove_multipart(multipart);
        pthread_mutex_unlock(&lock);
        return multipart ? answer(connection, "204 No Content", "", "") : refuse(connection, "404 Not Found", "NoSuchUpload");
    }
    if (query_value(query, "uploads") && !strcmp(method, "POST")) return create(connection, key);
    if (!strcmp(method, "PUT") && !find_header(connection, "x-amz-copy-source")) return put(connection, key);
    if (!strcmp(method, "HEAD") && strchr(key + 1, '/')) return get(connection, key, 0);
    if (!strcmp(method, "GET") && strchr(key + 1, '/')) return get(connection, key, 1);
    if (receive(connection, &sum, NULL) < 0) return -1;
    if (!strcmp(method, "DELETE")) {
        count(DELETE);
        pthread_mutex_lock(&lock);
        remove_object(find_object(key));
        pthread_mutex_unlock(&lock);
        return answer(connection, "204 No Content", "", "");
    }
    count(OTHER);
    if (query_value(query, "delete")) return answer(connection, "200 OK", "", "<DeleteResult></DeleteResult>");
    if (!strcmp(method, "GET")) return answer(connection, "200 OK", "",
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>");
    return !strcmp(method, "HEAD") ? answer(connection, "200 OK", "", "") : refuse(connection, "501 Not Implemented", "NotImplemented");
}

static int print_sum(const char *path, uint64_t left) {
    static unsigned char buffer[BUFFER_BYTES];
    uint32_t sum = 0;
    int file = open(path, O_RDONLY);
    while (left) {
        ssize_t size = read(file, buffer, left < sizeof buffer ? left : sizeof buffer);
        if (size < 0) return 1;
        if (!size && lseek(file, 0, SEEK_SET)) return 1;
        sum = sum_bytes(sum, buffer, (size_t)size);
        left -= (uint64_t)size;
    }
    printf("%u\n", sum);
    return 0;
}

int main(int arguments_count, char **arguments) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t each = i;
        for (int bit = 0; bit < 8; bit++) each = each & 1 ? each >> 1 ^ 0x82f63b78u : each >> 1;
        table[i] = each;
    }
    if (arguments_count != 4) return 2;
    if (!strcmp(arguments[1], "sum")) return print_sum(arguments[2], strtoull(arguments[3], NULL, 10));
    latency = atoi(arguments[3]);
    return serve(atoi(arguments[2]), serve_request);
}
