/* The sink's part that speaks as Azure Blob Storage does: Put Block, Put Block List, Get Block List, Put Blob, Append
 * Block, Set Blob Metadata, Get Blob Properties and Delete Blob, for any account and any signature. Only `sink.c` includes
 * it; objects, sums and latency are its own.
 */
static Block *find_block(const Object *blob, const char *id) {
    Block *each = blob ? blob->blocks : NULL;
    while (each && strcmp(each->id, id)) each = each->next;
    return each;
}

/* Copy a value of a query without its percent signs. */
static void unquote(char *into, size_t limit, const char *from) {
    size_t at = 0;
    while (*from && *from != '&' && at + 1 < limit) {
        unsigned code;
        if (*from == '%' && sscanf(from + 1, "%2x", &code) == 1) {
            into[at++] = (char)code;
            from += 3;
        } else into[at++] = *from++;
    }
    into[at] = 0;
}

static int answer_azure(Connection *connection, const char *status, const char *etag) {
    char headers[256];
    snprintf(headers, sizeof headers, "x-ms-version: 2021-12-02\r\nETag: \"0x%s\"\r\nLast-Modified: "
        "Thu, 01 Jan 2026 00:00:00 GMT\r\nx-ms-request-server-encrypted: true\r\n", etag);
    return answer(connection, status, headers, "");
}

static int refuse_azure(Connection *connection, const char *status, const char *code) {
    char headers[128], body[512];
    snprintf(headers, sizeof headers, "x-ms-version: 2021-12-02\r\nx-ms-error-code: %s\r\n", code);
    snprintf(body, sizeof body, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    return answer(connection, status, headers, strcmp(connection->method, "HEAD") ? body : "");
}

static int put_block(Connection *connection, const char *key, const char *query) {
    uint32_t sum;
    char id[256];
    int64_t size = receive(connection, &sum, NULL);
    if (size < 0) return -1;
    count(PUT_BLOCK);
    unquote(id, sizeof id, query_value(query, "blockid"));
    pthread_mutex_lock(&lock);
    Object **place = find_in(&staged, key);
    if (!*place) {
        *place = calloc(1, sizeof **place);
        (*place)->key = strdup(key);
    }
    Block *block = find_block(*place, id);
    if (!block) {
        block = calloc(1, sizeof *block);
        strcpy(block->id, id);
        block->next = (*place)->blocks;
        (*place)->blocks = block;
    }
    block->size = (uint64_t)size;
    block->sum = sum;
    pthread_mutex_unlock(&lock);
    return answer_azure(connection, "201 Created", "0");
}

/* The blob is the blocks of the list, in its order; its sum is combined from theirs. */
static int put_block_list(Connection *connection, const char *key) {
    uint32_t sum, whole = 0;
    unsigned char *content;
    uint64_t size = 0;
    char etag[64] = "";
    const char *condition = find_header(connection, "If-None-Match"), *code = NULL;
    int is_conditional = condition && *condition == '*';
    if (receive(connection, &sum, &content) < 0) return -1;
    count(PUT_BLOCK_LIST);
    pthread_mutex_lock(&lock);
    Object **place = find_in(&staged, key);
    if (is_conditional && *find_object(key)) code = "BlobAlreadyExists";
    for (const char *at = (char *)content; !code && at && (at = strstr(at, "<Latest>")); at += 8) {
        char id[256];
        const char *end = strstr(at, "</Latest>");
        snprintf(id, sizeof id, "%.*s", end ? (int)(end - at - 8) : 0, at + 8);
        Block *block = find_block(*place, id);
        if (!block) code = "InvalidBlockList";
        else {
            whole = combine(whole, block->sum, block->size);
            size += block->size;
        }
    }
    if (!code) {
        Object *object = add_object(key, size, whole, NULL);
        object->metadata = copy_metadata(connection);
        snprintf(object->etag, sizeof object->etag, "%08x%016llx", whole, (unsigned long long)size);
        strcpy(etag, object->etag);
        remove_object(place);
    }
    pthread_mutex_unlock(&lock);
    free(content);
    if (code) return refuse_azure(connection, strcmp(code, "InvalidBlockList") ? "409 Conflict" : "400 Bad Request", code);
    return answer_azure(connection, "201 Created", etag);
}

static int get_block_list(Connection *connection, const char *key) {
    size_t room = 4096, at = 0;
    char *body = malloc(room);
    count(GET_BLOCK_LIST);
    pthread_mutex_lock(&lock);
    Object *blob = *find_in(&staged, key);
    int is_there = blob || *find_object(key);
    at += (size_t)sprintf(body, "<?xml version=\"1.0\"?><BlockList><CommittedBlocks></CommittedBlocks><UncommittedBlocks>");
    for (Block *each = blob ? blob->blocks : NULL; each; each = each->next) {
        if (at + 1024 > room) body = realloc(body, room *= 2);
        at += (size_t)sprintf(body + at, "<Block><Name>%s</Name><Size>%llu</Size></Block>", each->id,
            (unsigned long long)each->size);
    }
    sprintf(body + at, "</UncommittedBlocks></BlockList>");
    pthread_mutex_unlock(&lock);
    int failed = is_there ? answer(connection, "200 OK", "x-ms-version: 2021-12-02\r\n", body)
                          : refuse_azure(connection, "404 Not Found", "BlobNotFound");
    free(body);
    return failed;
}

static int put_blob(Connection *connection, const char *key) {
    uint32_t sum;
    char etag[64] = "";
    const char *condition = find_header(connection, "If-None-Match");
    int is_conditional = condition && *condition == '*';
    int64_t size = receive(connection, &sum, NULL);
    if (size < 0) return -1;
    count(PUT_BLOB);
    pthread_mutex_lock(&lock);
    if (!is_conditional || !*find_object(key)) {
        Object *object = add_object(key, (uint64_t)size, sum, NULL);
        object->metadata = copy_metadata(connection);
        snprintf(object->etag, sizeof object->etag, "%08x%016llx", sum, (unsigned long long)size);
        strcpy(etag, object->etag);
    }
    pthread_mutex_unlock(&lock);
    return etag[0] ? answer_azure(connection, "201 Created", etag)
                   : refuse_azure(connection, "409 Conflict", "BlobAlreadyExists");
}

/* Append Block, or with `is_metadata` Set Blob Metadata. */
static int change_blob(Connection *connection, const char *key, int is_metadata) {
    uint32_t sum;
    char etag[64] = "";
    int64_t size = receive(connection, &sum, NULL);
    if (size < 0) return -1;
    count(is_metadata ? SET_METADATA : APPEND_BLOCK);
    pthread_mutex_lock(&lock);
    Object *object = *find_object(key);
    if (object && is_metadata) {
        free(object->metadata);
        object->metadata = copy_metadata(connection);
    } else if (object) {
        object->sum = combine(object->sum, sum, (uint64_t)size);
        object->size += (uint64_t)size;
        snprintf(object->etag, sizeof object->etag, "%08x%016llx", object->sum, (unsigned long long)object->size);
    }
    if (object) strcpy(etag, object->etag);
    pthread_mutex_unlock(&lock);
    if (!etag[0]) return refuse_azure(connection, "404 Not Found", "BlobNotFound");
    return answer_azure(connection, is_metadata ? "200 OK" : "201 Created", etag);
}

static int get_blob_properties(Connection *connection, const char *key) {
    char etag[64] = "", metadata[HEAD_BYTES / 2] = "";
    uint64_t size = 0;
    count(GET_PROPERTIES);
    pthread_mutex_lock(&lock);
    Object *object = *find_object(key);
    if (object) {
        strcpy(etag, object->etag);
        size = object->size;
        if (object->metadata) snprintf(metadata, sizeof metadata, "%s", object->metadata);
    }
    pthread_mutex_unlock(&lock);
    if (!etag[0]) return refuse_azure(connection, "404 Not Found", "BlobNotFound");
    wait_latency();
    return send_text(connection, "HTTP/1.1 200 OK\r\nx-ms-version: 2021-12-02\r\nETag: \"0x%s\"\r\n%sx-ms-blob-type: BlockBlob\r\n"
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n",
        etag, metadata, (unsigned long long)size) ? -1 : 0;
}

static int serve_azure(Connection *connection, const char *key, const char *query) {
    const char *method = connection->method, *comp = query_value(query, "comp");
    char what[32] = "";
    uint32_t sum;
    if (comp) unquote(what, sizeof what, comp);
    if (query_value(query, "restype")) { /* the container, which is always there */
        if (receive(connection, &sum, NULL) < 0) return -1;
        count(OTHER);
        return answer_azure(connection, !strcmp(method, "PUT") ? "201 Created" : "200 OK", "0");
    }
    if (!strcmp(method, "PUT") && !strcmp(what, "block")) return put_block(connection, key, query);
    if (!strcmp(method, "PUT") && !strcmp(what, "blocklist")) return put_block_list(connection, key);
    if (!strcmp(method, "PUT") && !strcmp(what, "appendblock")) return change_blob(connection, key, 0);
    if (!strcmp(method, "PUT") && !strcmp(what, "metadata")) return change_blob(connection, key, 1);
    if (!strcmp(method, "PUT") && !what[0]) return put_blob(connection, key);
    if (!strcmp(method, "GET") && !strcmp(what, "blocklist")) return get_block_list(connection, key);
    if (!strcmp(method, "HEAD")) return get_blob_properties(connection, key);
    if (receive(connection, &sum, NULL) < 0) return -1;
    if (strcmp(method, "DELETE")) {
        count(OTHER);
        return refuse_azure(connection, "501 Not Implemented", "NotImplemented");
    }
    count(DELETE);
    pthread_mutex_lock(&lock);
    int is_there = *find_object(key) != NULL;
    remove_object(find_object(key));
    pthread_mutex_unlock(&lock);
    return is_there ? answer_azure(connection, "202 Accepted", "0") : refuse_azure(connection, "404 Not Found", "BlobNotFound");
}
