/* A condition that must hold, whatever the build's options. */
#ifndef VEXFS_TEST_CHECK_H
#define VEXFS_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what, ...)                                                 \
    do {                                                                 \
        if (!(what)) {                                                   \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #what);   \
            fprintf(stderr, __VA_ARGS__);                                \
            fputc('\n', stderr);                                         \
            exit(1);                                                     \
        }                                                                \
    } while (0)

#endif
