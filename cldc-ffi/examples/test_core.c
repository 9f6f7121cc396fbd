/*
 * One session by the low-level calls of cldc.h, with a loop of its own: opens a file, writes it, reads it back, is told of
 * the change, locks it, deletes it, and ends the session: test_core HOST PORT USER KEY PATH
 */
#include <cldc.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(what)                                                       \
	do {                                                              \
		if (!(what)) {                                            \
			fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
			exit(1);                                          \
		}                                                         \
	} while (0)

/* What the callbacks note. */
struct client {
	struct cldc_udp *udp;
	int (*timer)(struct cldc_session *, void *);
	time_t due;
	int answers;
	enum cle_err_codes code;
	char data[64];
	size_t len;
	struct cldc_node_metadata metadata;
	char name[CLD_INODE_NAME_MAX + 1];
	int has_sequencer;
	struct cldc_sequencer sequencer;
	struct cldc_fh *told;
	uint32_t events;
};

static struct client client;

static bool timer_ctl(void *arg, bool add, int (*cb)(struct cldc_session *, void *), void *cb_private, time_t secs)
{
	(void)arg, (void)cb_private;
	client.timer = add ? cb : NULL;
	client.due = time(NULL) + secs;
	return true;
}

static int pkt_send(void *arg, const void *addr, size_t addrlen, const void *buf, size_t buflen)
{
	(void)arg;
	return cldc_udp_pkt_send(client.udp, addr, addrlen, buf, buflen);
}

static void event(void *arg, struct cldc_session *sess, struct cldc_fh *fh, uint32_t events)
{
	(void)arg, (void)sess;
	client.told = fh;
	client.events |= events;
}

static int answered(struct cldc_call_opts *copts, enum cle_err_codes code)
{
	char *data;
	client.answers++;
	client.code = code;
	cldc_copts_get_data(copts, &data, &client.len);
	if (client.len)
		memcpy(client.data, data, client.len < sizeof(client.data) ? client.len : sizeof(client.data));
	cldc_copts_get_metadata(copts, &client.metadata);
	strcpy(client.name, client.metadata.inode_name);
	client.has_sequencer = cldc_copts_get_sequencer(copts, &client.sequencer) == 0;
	return 0;
}

/* In a callback: no datagrams, but requests. */
static int reads_again(struct cldc_call_opts *copts, enum cle_err_codes code)
{
	struct cldc_call_opts next;
	char byte = 0;
	memset(&next, 0, sizeof(next));
	next.cb = answered;
	CHECK(code == CLE_OK);
	CHECK(cldc_receive_pkt(client.udp->sess, client.udp->addr, client.udp->addr_len, &byte, 1) == -CLDC_EBUSY);
	CHECK(cldc_get((struct cldc_fh *)copts->CLDC_PRIVATE, &next, false) == 0);
	return 0;
}

static void turn(void)
{
	struct pollfd fd;
	fd.fd = client.udp->fd;
	fd.events = POLLIN;
	poll(&fd, 1, 50);
	while (fd.revents) {
		cldc_udp_receive_pkt(client.udp);
		poll(&fd, 1, 0);
	}
	if (client.timer && time(NULL) >= client.due) {
		int (*timer)(struct cldc_session *, void *) = client.timer;
		client.timer = NULL;
		timer(client.udp->sess, NULL);
	}
}

/* Waits for one more answer, at most a minute. */
static enum cle_err_codes answer(void)
{
	time_t until = time(NULL) + 60;
	int before = client.answers;
	while (client.answers == before) {
		CHECK(time(NULL) < until);
		turn();
	}
	return client.code;
}

static void expect_event(struct cldc_fh *fh, uint32_t events)
{
	time_t until = time(NULL) + 60;
	while (!(client.events & events)) {
		CHECK(time(NULL) < until);
		turn();
	}
	CHECK(client.told == fh);
	client.events = 0;
}

int main(int argc, char **argv)
{
	struct cldc_ops ops;
	struct cldc_call_opts copts, chain;
	struct cldc_session *sess = NULL;
	struct cldc_fh *fh = NULL, *other = NULL;
	int freed;

	if (argc != 6)
		return 2;
	cldc_init();
	memset(&ops, 0, sizeof(ops));
	ops.timer_ctl = timer_ctl;
	ops.pkt_send = pkt_send;
	ops.event = event;
	memset(&copts, 0, sizeof(copts));
	copts.cb = answered;
	chain = copts;
	chain.cb = reads_again;

	CHECK(cldc_udp_new("no such host", 1, &client.udp) == -2);
	CHECK(cldc_udp_new(argv[1], 0, &client.udp) == -22);
	CHECK(cldc_udp_new(argv[1], atoi(argv[2]), &client.udp) == 0);
	CHECK(cldc_udp_receive_pkt(client.udp) == -6);
	CHECK(cldc_new_sess(&ops, &copts, client.udp->addr, client.udp->addr_len,
			    "a name that is longer than 31 bytes", argv[4], NULL, &sess) == -CLDC_EINVAL);
	CHECK(cldc_new_sess(&ops, &copts, client.udp->addr, client.udp->addr_len, argv[3], argv[4], NULL,
			    &client.udp->sess) == 0);
	sess = client.udp->sess;
	CHECK(cldc_open(sess, &copts, argv[5], COM_READ, 0, &fh) == -CLDC_EINVAL);
	CHECK(answer() == CLE_OK);
	CHECK(cldc_session_lease(sess) == CLDC_LEASE_SAFE && cldc_session_safe_us(sess) > 1000000);

	CHECK(cldc_open(sess, &copts, "no slash", COM_READ, 0, &fh) == -CLDC_EINVAL);
	CHECK(cldc_open(sess, &copts, "/not/there", COM_READ, 0, &other) == 0);
	CHECK(answer() != CLE_OK);
	CHECK(cldc_get(other, &copts, false) == -CLDC_EINVAL);
	CHECK(cldc_open(sess, &copts, argv[5], COM_READ | COM_WRITE | COM_LOCK | COM_CREATE, CE_UPDATED, &fh) == 0);
	CHECK(cldc_put(fh, &copts, "x", 1) == -CLDC_EINVAL);
	CHECK(answer() == CLE_OK);
	client.events = 0;

	CHECK(cldc_put(fh, &copts, "", 0) == -CLDC_EINVAL);
	chain.CLDC_PRIVATE = fh;
	CHECK(cldc_put(fh, &chain, "hello", 5) == 0);
	CHECK(answer() == CLE_OK);
	CHECK(client.len == 5 && memcmp(client.data, "hello", 5) == 0 && strcmp(client.name, argv[5]) == 0);
	expect_event(fh, CE_UPDATED);
	CHECK(cldc_get(fh, &copts, true) == 0);
	CHECK(answer() == CLE_OK && client.len == 0 && client.metadata.vers > 1);

	CHECK(cldc_open(sess, &copts, argv[5], COM_LOCK, 0, &other) == 0);
	CHECK(answer() == CLE_OK);
	CHECK(cldc_lock(fh, &copts, 0, true) == 0);
	CHECK(answer() == CLE_OK && cldc_lock_safe_us(fh) > 1000000);
	CHECK(client.has_sequencer == cldc_session_is_extended(sess));
	CHECK(cldc_lock(other, &copts, 0, false) == 0);
	CHECK(answer() == CLE_LOCK_CONFLICT);
	CHECK(cldc_lock(other, &copts, 0, true) == 0);
	CHECK(answer() == CLE_LOCK_PENDING && cldc_lock_safe_us(other) == 0);
	if (client.has_sequencer || cldc_session_is_extended(sess)) {
		struct cldc_sequencer proof;
		CHECK(cldc_get_sequencer(fh, &copts) == 0);
		CHECK(answer() == CLE_OK && client.has_sequencer);
		proof = client.sequencer;
		CHECK(cldc_put_fenced(fh, &copts, &proof, "mine", 4) == 0);
		CHECK(answer() == CLE_OK);
		CHECK(cldc_unlock(fh, &copts) == 0);
		CHECK(answer() == CLE_OK);
		CHECK(cldc_put_fenced(fh, &copts, &proof, "late", 4) == 0);
		CHECK((int)answer() == CLE_STALE);
	} else {
		CHECK(cldc_unlock(fh, &copts) == 0);
		CHECK(answer() == CLE_OK);
	}
	expect_event(other, CE_LOCKED);
	CHECK(cldc_lock_safe_us(other) > 1000000);

	CHECK(cldc_close(other, &copts) == 0);
	CHECK(cldc_close(other, &copts) == -CLDC_EINVAL);
	CHECK(answer() == CLE_OK);
	CHECK(cldc_del(sess, &copts, argv[5]) == 0);
	CHECK(answer() == CLE_OK);
	expect_event(fh, CE_DELETED);
	CHECK(cldc_end_sess(sess, &copts) == 0);
	CHECK(answer() == CLE_OK);
	CHECK(cldc_nop(sess, &copts) == -CLDC_EPIPE);
	freed = client.answers;
	cldc_kill_sess(sess);
	cldc_kill_sess(sess);
	CHECK(cldc_nop(sess, &copts) == -CLDC_EINVAL && cldc_get(fh, &copts, false) == -CLDC_EINVAL);
	CHECK(client.answers == freed && !client.timer);
	client.udp->sess = NULL;
	cldc_udp_free(client.udp);
	cldc_udp_free(client.udp);
	CHECK(cldc_udp_receive_pkt(client.udp) == -CLDC_EINVAL);
	return 0;
}
