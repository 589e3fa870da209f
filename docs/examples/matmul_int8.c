/* An int8 matmul that takes a golden vector and writes its answer.
 *
 *   cc -O2 -o matmul_int8 matmul_int8.c
 *   slimspec golden run --op matmul_int8 --cmd './matmul_int8 {inputs} {outputs}'
 *
 * The first argument is a directory with case.txt and one raw file per input tensor (row-major,
 * little endian), the second one is where the outputs go. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Find "input NAME DTYPE 2 ROWS COLUMNS FILE" in case.txt and load the file. */
static int8_t *load(const char *directory, const char *name, size_t *rows, size_t *columns)
{
    char path[4096], line[512], kind[64], found[64], dtype[16], file[64];
    int rank;
    snprintf(path, sizeof path, "%s/case.txt", directory);
    FILE *text = fopen(path, "r");
    if (!text) return NULL;
    while (fgets(line, sizeof line, text)) {
        if (sscanf(line, "%63s %63s %15s %d %zu %zu %63s",
                   kind, found, dtype, &rank, rows, columns, file) != 7) continue;
        if (strcmp(kind, "input") || strcmp(found, name)) continue;
        fclose(text);
        if (strcmp(dtype, "I8") || rank != 2) return NULL;
        snprintf(path, sizeof path, "%s/%s", directory, file);
        FILE *data = fopen(path, "rb");
        size_t size = *rows * *columns;
        int8_t *values = malloc(size + 1);
        if (!data || fread(values, 1, size, data) != size) return NULL;
        fclose(data);
        return values;
    }
    fclose(text);
    return NULL;
}

int main(int argc, char **argv)
{
    size_t m, n, k, kw;
    if (argc != 3) return 2;
    int8_t *x = load(argv[1], "x", &m, &k), *w = load(argv[1], "w", &n, &kw);
    if (!x || !w || k != kw) return 3;
    char path[4096];
    snprintf(path, sizeof path, "%s/acc.bin", argv[2]);
    FILE *out = fopen(path, "wb");
    if (!out) return 4;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            uint32_t acc = 0; /* unsigned: int32 overflow must wrap, in C it is undefined */
            for (size_t p = 0; p < k; p++)
                acc += (uint32_t)(x[i * k + p] * w[j * k + p]);
            int32_t value;
            memcpy(&value, &acc, sizeof value);
            if (fwrite(&value, sizeof value, 1, out) != 1) return 5;
        }
    return fclose(out) ? 5 : 0;
}
