/* Stands before the C library's resolver: a name that the file TEST_HOSTS has is resolved to the address beside it,
   read anew each time, and every other name as always. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    resolver *real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("TEST_HOSTS");
    FILE *file = node && path ? fopen(path, "r") : NULL;
    char address[64], name[256];
    int known = 0;
    while (file && !known && fscanf(file, "%63s %255s", address, name) == 2)
        known = strcmp(name, node) == 0;
    if (file)
        fclose(file);
    return real(known ? address : node, service, hints, found);
}
