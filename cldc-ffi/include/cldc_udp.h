/*
 * cldc_udp.h: a UDP socket for a session of cldc.h.
 *
 *	struct cldc_udp *udp;
 *	if (cldc_udp_new("localhost", 8081, &udp)) ...
 *	if (cldc_new_sess(&ops, &copts, udp->addr, udp->addr_len, user, key, udp, &udp->sess)) ...
 *
 * with `ops.pkt_send = cldc_udp_pkt_send`. Wait until udp->fd can be read, call cldc_udp_receive_pkt until it gives
 * nothing, and run the timer of `ops.timer_ctl`. A struct cldc_udp may be used by one thread at a time.
 */
#ifndef CLDC_UDP_H
#define CLDC_UDP_H

#include "cldc.h"
#include "cldc_common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cldc_udp {
	uint8_t addr[64]; /* the server's, a struct sockaddr */
	size_t addr_len;
	int fd;           /* the socket, which does not block; not the program's to close */
	struct cldc_session *sess; /* set by the program */
	/* For the program's timer: */
	int (*cb)(struct cldc_session *, void *);
	void *cb_private;
};

/* A socket towards the first address of `host`. 0, -ENOENT if there is no such host, or another negative errno. */
int cldc_udp_new(const char *host, int port, struct cldc_udp **udp_out);

/* Closes the socket, and frees the struct. The session is not touched. */
void cldc_udp_free(struct cldc_udp *udp);

/* Takes one datagram in, if there is one: what cldc_receive_pkt says, 0 if there was none, -ENXIO without a session. */
int cldc_udp_receive_pkt(struct cldc_udp *udp);

/* Sends one datagram: for cldc_ops.pkt_send, with a struct cldc_udp for `private`. 0, or a negative errno. */
int cldc_udp_pkt_send(void *CLDC_PRIVATE, const void *addr, size_t addrlen, const void *buf, size_t buflen);

#ifdef __cplusplus
}
#endif

#endif /* CLDC_UDP_H */
