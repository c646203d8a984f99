/* Runs packed low-bit networks, which `quant pack` writes, in integers.
 *
 * Load a network, make a session, and run images:
 *
 *     qnet_network *network = qnet_load("packed.qnet");
 *     qnet_session *session = qnet_session_new(network);
 *     if (qnet_run(session, pixels, length, height, width, scores, classes) != 0)
 *         fprintf(stderr, "%s\n", qnet_error());
 *     qnet_session_free(session);
 *     qnet_free(network);
 *
 * A function that fails returns NULL, 0 or -1, and qnet_error() says why. Null pointers and wrong
 * sizes are errors. It cannot be checked whether a pointer that is not null points to what it
 * should, and whether a handle was freed.
 *
 * Threads may share a network. A session is for one thread at a time: if another thread runs it
 * meanwhile, qnet_run fails. Texts are UTF-8 and end with a zero.
 */
#ifndef QUANT_INFER_H
#define QUANT_INFER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A network that is prepared for running. It does not change. */
typedef struct qnet_network qnet_network;

/* The memory in which one image after another is computed. */
typedef struct qnet_session qnet_session;

/* Returns what went wrong last in this thread, in one line. The text is empty if nothing did. It is
 * valid until the next error of this thread, and never NULL. */
const char *qnet_error(void);

/* Reads a packed file. Returns NULL if there is an error. On Windows the path is UTF-8; elsewhere
 * it is the bytes that the file system knows. */
qnet_network *qnet_load(const char *path);

/* Reads a packed file whose `length` bytes are in memory. They may be freed afterwards. Returns
 * NULL if there is an error. */
qnet_network *qnet_from_bytes(const uint8_t *bytes, size_t length);

/* Frees a network. Its texts are not valid afterwards, but its sessions are. NULL is allowed. */
void qnet_free(qnet_network *network);

/* Returns the name of the network. It is valid until the network is freed. */
const char *qnet_name(const qnet_network *network);

/* Returns the number of classes, which is the number of scores of an image. */
size_t qnet_classes(const qnet_network *network);

/* Returns the name of a class, counted from 0. It is valid until the network is freed. Returns NULL
 * if the network has no name for it. */
const char *qnet_class_name(const qnet_network *network, size_t index);

/* Return the height and width in pixels of the images with which the network was trained. Images of
 * another size can be run if every layer has a size for them. */
size_t qnet_height(const qnet_network *network);
size_t qnet_width(const qnet_network *network);

/* Returns the number of channels of an image: 3 for red, green and blue. */
size_t qnet_channels(const qnet_network *network);

/* Returns the length in pixels to which the shorter side of a picture is resized before the centre
 * of qnet_height by qnet_width pixels is cut out. It is 0 if pictures are only cut. The library
 * does neither: this says how the network was evaluated in training. */
size_t qnet_shorter_side(const qnet_network *network);

/* Makes a session. Returns NULL if there is an error. */
qnet_session *qnet_session_new(const qnet_network *network);

/* Frees a session. NULL is allowed. */
void qnet_session_free(qnet_session *session);

/* Computes the scores of an image. The best class has the highest score.
 *
 * pixels         height * width * channels bytes, row by row. The channels of a pixel follow each
 *                other, as image decoders return them.
 * pixels_length  their number
 * scores         receives the scores
 * scores_length  the number of floats at `scores`, which has to be qnet_classes()
 *
 * Returns 0, or -1 if there is an error; the scores are unchanged then. */
int qnet_run(qnet_session *session, const uint8_t *pixels, size_t pixels_length, size_t height,
             size_t width, float *scores, size_t scores_length);

#ifdef __cplusplus
}
#endif

#endif
