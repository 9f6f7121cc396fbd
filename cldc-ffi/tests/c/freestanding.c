/*
 * A program without a C library: links libcldc_bare alone, opens a session, and reports what memory that took.
 *
 * Exit codes: 0 all is well, otherwise the line of the check that failed, modulo 256 and never 0.
 */
#define CLDC_BARE
#include "cldc.h"

/* What the library asks of its surroundings. */
void *memcpy(void *to, const void *from, size_t len)
{
	unsigned char *t = to;
	const unsigned char *f = from;
	while (len--)
		*t++ = *f++;
	return to;
}

void *memmove(void *to, const void *from, size_t len)
{
	unsigned char *t = to;
	const unsigned char *f = from;
	if (t < f)
		return memcpy(to, from, len);
	while (len--)
		t[len] = f[len];
	return to;
}

void *memset(void *to, int value, size_t len)
{
	unsigned char *t = to;
	while (len--)
		*t++ = (unsigned char)value;
	return to;
}

int memcmp(const void *one, const void *other, size_t len)
{
	const unsigned char *a = one, *b = other;
	for (; len--; a++, b++)
		if (*a != *b)
			return *a < *b ? -1 : 1;
	return 0;
}

int bcmp(const void *one, const void *other, size_t len)
{
	return memcmp(one, other, len);
}

static uint64_t memory[CLDC_BARE_SESSION_SIZE / 8];
static uint64_t now;
static unsigned int sent, told, timers;
static size_t sent_len;
static enum cle_err_codes outcome;

static uint64_t now_us(void *private)
{
	(void)private;
	return now;
}

static int fill(void *private, void *buf, size_t len)
{
	(void)private;
	memset(buf, 7, len);
	return 0;
}

static bool timer_us(void *private, bool add, int (*cb)(struct cldc_session *, void *), void *cb_private,
		     uint64_t usecs)
{
	(void)private, (void)cb, (void)cb_private, (void)usecs;
	timers += add;
	return true;
}

static int pkt_send(void *private, const void *addr, size_t addrlen, const void *buf, size_t buflen)
{
	(void)private, (void)buf;
	if (addrlen != 4 || memcmp(addr, "here", 4))
		return -1;
	sent++;
	sent_len = buflen;
	return 0;
}

static void event(void *private, struct cldc_session *sess, struct cldc_fh *fh, uint32_t bits)
{
	(void)private, (void)sess;
	if (!fh && bits == CE_SESS_FAILED)
		told++;
}

static int opened(struct cldc_call_opts *copts, enum cle_err_codes code)
{
	(void)copts;
	told++;
	outcome = code;
	return 0;
}

#define CHECK(what)                                 \
	do {                                        \
		if (!(what))                        \
			return __LINE__ % 255 + 1;  \
	} while (0)

static int session(void)
{
	static const struct cldc_ops ops = {NULL, pkt_send, event};
	static const struct cldc_env env = {CLDC_ENV_VERSION, now_us, fill, timer_us, NULL};
	struct cldc_options options = {CLDC_OPTIONS_VERSION, 0, 0, 5000, false, false, NULL, 0};
	struct cldc_call_opts copts = {opened, NULL, NULL, 0};
	struct cldc_session *sess;
	struct cldc_fh *fh;

	CHECK(cldc_session_size() <= sizeof(memory));
	CHECK(cldc_session_init(memory, 100, &env, &options, &ops, &copts, "here", 4, "u", "k", NULL, &sess) ==
	      -CLDC_EINVAL);
	CHECK(cldc_session_init(memory, sizeof(memory), NULL, &options, &ops, &copts, "here", 4, "u", "k", NULL,
				&sess) == -CLDC_EINVAL);
	CHECK(cldc_session_init(memory, sizeof(memory), &env, &options, &ops, &copts, "here", 4, "u", "k", NULL,
				&sess) == 0);
	CHECK(sent == 1 && sent_len >= 256 && timers == 1);
	CHECK(cldc_session_lease(sess) == CLDC_LEASE_JEOPARDY);
	CHECK(cldc_open(sess, NULL, "/a", COM_READ, 0, &fh) == -CLDC_EINVAL);
	CHECK(cldc_receive_pkt(sess, "there", 5, "nonsense", 8) == -CLDC_EBADE);
	CHECK(cldc_receive_pkt(sess, "here", 4, "nonsense", 8) == -CLDC_EPROTO);

	/* Nobody answers. */
	for (; now < 6000000; now += 100000)
		CHECK(cldc_session_timeout(sess) == 0);
	CHECK(sent > 1 && told == 2 && outcome == CLE_TIMEOUT);
	CHECK(cldc_session_lease(sess) == CLDC_LEASE_EXPIRED);
	CHECK(cldc_session_next_timeout(sess) == UINT64_MAX);
	CHECK(cldc_nop(sess, NULL) == -CLDC_EPIPE);
	cldc_kill_sess(sess);
	CHECK(cldc_nop(sess, NULL) == -CLDC_EINVAL);
	return 0;
}

static long call(long number, long a, long b, long c)
{
	long result;
#if defined(__x86_64__)
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
#error "say how this processor calls Linux"
#endif
	return result;
}

static void print(const char *what, size_t number)
{
	char digits[20];
	size_t at = sizeof(digits), len = 0;
	while (what[len])
		len++;
	call(1, 1, (long)what, (long)len);
	do
		digits[--at] = (char)('0' + number % 10);
	while (number /= 10);
	call(1, 1, (long)(digits + at), (long)(sizeof(digits) - at));
	call(1, 1, (long)" bytes\n", 7);
}

/* Paints so much of the stack, or tells how much of that has been written to since. */
enum { PAINTED = 32768 };
static __attribute__((noinline)) size_t painted(bool look)
{
	volatile unsigned char room[PAINTED];
	size_t at;
	if (!look)
		for (at = 0; at < PAINTED; at++)
			room[at] = 0xa5;
	for (at = 0; at < PAINTED && room[at] == 0xa5; at++)
		;
	return PAINTED - at;
}

static __attribute__((noinline)) int run(void)
{
	return session();
}

__attribute__((force_align_arg_pointer)) void _start(void)
{
	int result;
	painted(false);
	result = run();
	print("stack: ", painted(true));
	print("session: ", cldc_session_size());
	call(60, result, 0, 0);
	for (;;)
		;
}
