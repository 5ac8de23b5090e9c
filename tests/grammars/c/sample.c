/* A file that uses most of what the language has. */
#include <stdio.h>
#include <stdlib.h>

#define MAX(a, b) ((a) > (b) ? (a) : (b))

typedef struct point {
    double x, y;
    const char *name; // a comment (
} point;

enum color { RED = 1, BLUE };

static int compare(const void *left, const void *right) {
    return MAX(*(const int *)left, *(const int *)right);
}

int main(int argc, char **argv) {
    int values[] = {3, 1, 2};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i] == 2) {
            continue;
        } else {
            printf("%d %c \"(\n", values[i], '(');
        }
    }
    qsort(values, 3, sizeof(int), compare);
    switch (argc) {
    case 1:
        puts(argv[0]);
        break;
    default:
        return RED;
    }
    do {
        argc--;
    } while (argc > 0);
    return 0;
}
