/* Classifies a picture with a packed network: classify NETWORK.qnet PICTURE.ppm
 *
 * The picture is a binary PPM file (P6) of the size that the network takes.
 * `magick picture.jpg -resize 224x224^ -gravity center -extent 224x224 picture.ppm` makes one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "quant_infer.h"

/* Reads a binary PPM file with one byte for each number. Returns NULL if it is none. */
static uint8_t *read_ppm(const char *path, size_t *height, size_t *width) {
    unsigned long columns, rows;
    uint8_t *pixels = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    if (fscanf(file, "P6 %lu %lu 255", &columns, &rows) == 2 && fgetc(file) != EOF &&
        columns > 0 && rows > 0 && columns <= 16384 && rows <= 16384) {
        size_t length = (size_t)columns * rows * 3;
        pixels = malloc(length);
        if (pixels != NULL && fread(pixels, 1, length, file) != length) {
            free(pixels);
            pixels = NULL;
        }
        *height = rows;
        *width = columns;
    }
    fclose(file);
    return pixels;
}

int main(int count, char **arguments) {
    qnet_network *network = NULL;
    qnet_session *session = NULL;
    uint8_t *pixels = NULL;
    float *scores = NULL;
    size_t height, width, classes, i, best = 0;
    int failed = 1;

    if (count != 3) {
        fprintf(stderr, "usage: classify NETWORK.qnet PICTURE.ppm\n");
        return 2;
    }
    network = qnet_load(arguments[1]);
    session = network == NULL ? NULL : qnet_session_new(network);
    if (session == NULL) {
        fprintf(stderr, "%s\n", qnet_error());
        goto end;
    }
    pixels = read_ppm(arguments[2], &height, &width);
    if (pixels == NULL) {
        fprintf(stderr, "%s is not a binary PPM file with a byte for each number\n", arguments[2]);
        goto end;
    }
    classes = qnet_classes(network);
    scores = malloc(classes * sizeof *scores);
    if (scores == NULL) {
        fprintf(stderr, "there is no memory for %zu scores\n", classes);
        goto end;
    }
    if (qnet_run(session, pixels, height * width * 3, height, width, scores, classes) != 0) {
        fprintf(stderr, "%s\n", qnet_error());
        goto end;
    }
    for (i = 0; i < classes; i++) {
        const char *name = qnet_class_name(network, i);
        printf("%.9g %s\n", scores[i], name == NULL ? "(no name)" : name);
        if (scores[i] > scores[best])
            best = i;
    }
    printf("best: %zu\n", best);
    failed = 0;
end:
    free(scores);
    free(pixels);
    qnet_session_free(session);
    qnet_free(network);
    return failed;
}
