/*
 * cldc.h: one client session of the CLD lock service, for C and C++.
 *
 * The calls of Project Hail's cldc.h, so that a program written for it compiles and works, and what those calls
 * lacked. A session is a state machine without a socket: the program hands it the datagrams that come in
 * (cldc_receive_pkt), and it calls the program back to send datagrams (pkt_send), to be woken later (timer_ctl or
 * timer_us), with the outcome of requests (cldc_call_opts.cb), and with events (event).
 *
 * Two libraries have these calls:
 *   libcldc        for programs: everything here, cldc_udp.h and ncld.h.
 *   libcldc_bare   for kernels and firmware: what is here without the parts under `#ifndef CLDC_BARE`. It needs no C
 *                  library, allocates nothing, and asks of its surroundings memcpy, memmove, memset, memcmp, bcmp only.
 *                  Define CLDC_BARE before including this header.
 *
 * Units         Times that end in _us are microseconds, in _ms milliseconds; lengths are bytes.
 * Strings       User names, keys and paths end with a NUL. Lengths given with data do not count one.
 * Results       0 or more is success, a negative number says what was wrong (enum cldc_errno, -CLDC_EINVAL and so on:
 *               the numbers of Linux's errno.h). That is about the call on this side only. What the server makes of a
 *               request comes later, once, as the code that its callback is given.
 * Ownership     What is given to a call is copied before it returns, unless it says otherwise. A session owns its
 *               handles: struct cldc_fh * stay valid until cldc_close, a failed open, or the end of the session object.
 * Threads       A session may be used by one thread at a time, whichever. Different sessions have nothing in common.
 * Callbacks     Outcomes and events are told inside cldc_receive_pkt, cldc_session_timeout and the timer's callback.
 *               What is told may make any call on the session, cldc_kill_sess included, except those three
 *               (-CLDC_EBUSY). pkt_send, the timer's functions and those of cldc_env make no calls on it.
 * Misuse        A null pointer, a handle that is closed, a session that is over, a name too long: a negative result, and
 *               nothing happens. libcldc also knows sessions and handles that were freed. libcldc_bare cannot tell
 *               that memory which held a session now holds something else.
 */
#ifndef CLDC_H
#define CLDC_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#endif
#ifndef CLDC_BARE
#include <sys/types.h>
#endif

#ifdef __cplusplus
extern "C" {
/* A keyword in C++; there the member is called private_. */
#define CLDC_PRIVATE private_
#else
#define CLDC_PRIVATE private
#endif

/* ---- Numbers of the protocol ---- */

/* Operations. */
enum cld_msg_op {
	CMO_NOP = 0,
	CMO_NEW_SESS = 1,
	CMO_OPEN = 2,
	CMO_GET_META = 3,
	CMO_GET = 4,
	CMO_PUT = 6,
	CMO_CLOSE = 7,
	CMO_DEL = 8,
	CMO_LOCK = 9,
	CMO_UNLOCK = 10,
	CMO_TRYLOCK = 11,
	CMO_ACK = 12,
	CMO_END_SESS = 13,
	CMO_PING = 14,
	CMO_NOT_MASTER = 15,
	CMO_EVENT = 16,
	CMO_ACK_FRAG = 17
};

/* What came of a request. cld_errstr has each in words. */
enum cle_err_codes {
	CLE_OK = 0,
	CLE_SESS_EXISTS = 1,   /* a session of this id exists */
	CLE_SESS_INVAL = 2,    /* the server does not know the session */
	CLE_DB_ERR = 3,        /* the server's database failed, or, in a plain session, the parent directory is missing */
	CLE_BAD_PKT = 4,       /* the message does not decode */
	CLE_INODE_INVAL = 5,   /* the file behind the handle is gone */
	CLE_NAME_INVAL = 6,    /* the path is malformed, or names nothing */
	CLE_OOM = 7,           /* the server is out of memory */
	CLE_FH_INVAL = 8,      /* the server does not know the handle */
	CLE_DATA_INVAL = 9,
	CLE_LOCK_INVAL = 10,   /* the handle holds no lock, and waits for none */
	CLE_LOCK_CONFLICT = 11, /* others hold the lock, or this handle holds it, or waits for it, already */
	CLE_LOCK_PENDING = 12, /* waits in the lock's queue: CE_LOCKED will tell when it is granted */
	CLE_MODE_INVAL = 13,   /* the handle was not opened for this, or a directory is not one */
	CLE_INODE_EXISTS = 14, /* the file exists */
	CLE_DIR_NOTEMPTY = 15,
	CLE_INTERNAL_ERR = 16,
	CLE_TIMEOUT = 17,      /* the session ended before the answer came: whether it was done is not known */
	CLE_SIG_INVAL = 18     /* the server does not accept the user or the key */
};

/* Codes of our servers that Hail's did not have. Not members of the enum, so that a program's switch over Hail's codes
 * stays complete. */
#define CLE_TOO_LARGE 64   /* contents larger than the receiver takes */
#define CLE_LIMIT 65       /* a limit of the server is reached */
#define CLE_STALE 66       /* the sequencer does not stand any more */
#define CLE_UNSUPPORTED 68 /* the server does not know the operation */

/* How a file is opened. */
enum {
	COM_READ = 0x01,
	COM_WRITE = 0x02,
	COM_LOCK = 0x04,
	COM_ACL = 0x08,
	COM_CREATE = 0x10,   /* created if it does not exist */
	COM_EXCL = 0x20,     /* with COM_CREATE: fails if it exists */
	COM_DIRECTORY = 0x40 /* a directory is meant */
};

/* What happened, or what a handle is to be told of. */
enum {
	CE_UPDATED = 0x01,         /* the contents changed; of a directory, a child was created or deleted */
	CE_DELETED = 0x02,         /* the file was deleted */
	CE_LOCKED = 0x04,          /* the lock that was waited for is held */
	CE_MASTER_FAILOVER = 0x08, /* another server is the master now; handles and locks stand; read what is cached again */
	CE_SESS_FAILED = 0x10,     /* the session is lost, with its handles and locks */
	/* Only with cldc_options.tell_lease: */
	CE_LEASE_JEOPARDY = 0x100, /* the lease is not safe: the server may have given the locks to others */
	CE_LEASE_SAFE = 0x200      /* it is safe again, and the locks were ours all the time */
};

enum { CIFL_DIR = 0x01 };  /* struct cldc_node_metadata.flags: a directory */
enum { CLF_SHARED = 0x01 }; /* lock flags: shared with other shared holders; otherwise exclusive */

enum {
	CLD_SID_SZ = 8,
	CLD_INODE_NAME_MAX = 256,   /* longest path */
	CLD_MAX_USERNAME = 32,      /* with a NUL */
	CLD_MAX_PKT_MSG_SZ = 1024,
	CLD_MAX_PAYLOAD_SZ = 131072, /* longest file */
	CLD_MAX_MSG_SZ = 196608,
	CLD_MAX_SECRET_KEY = 128    /* with a NUL */
};

/* ---- Results of calls, negated: Linux's errno numbers, on every system ---- */
enum cldc_errno {
	CLDC_EIO = 5,
	CLDC_EAGAIN = 11,     /* as many requests as the session holds are on their way: wait for a callback */
	CLDC_ENOMEM = 12,
	CLDC_EACCES = 13,     /* a datagram of another session or user, or with a bad signature */
	CLDC_EBUSY = 16,      /* the call cannot be made from within a callback */
	CLDC_EINVAL = 22,     /* a bad argument, a handle that is not open, a session that is not open yet */
	CLDC_EMFILE = 24,     /* as many handles as the session holds are open */
	CLDC_EPIPE = 32,      /* the session is over */
	CLDC_EBADE = 52,      /* a datagram from another address than the session's server */
	CLDC_EBADSLT = 57,    /* a datagram out of its turn, or a repeated one; nothing needs to be done */
	CLDC_EPROTO = 71,     /* not a packet of the protocol */
	CLDC_EMSGSIZE = 90,   /* contents larger than this session's memory, or than the server takes */
	CLDC_EOPNOTSUPP = 95  /* the server has no sequencers */
};

/* ---- Types ---- */

struct cldc_session;
struct cldc_fh;

/* What to do when a request is answered. Copied by the call that makes the request. */
struct cldc_call_opts {
	/* Called once with the outcome of the request, never after cldc_kill_sess; NULL if nobody wants it. The struct
	 * that it gets is valid until it returns. A negative result becomes the result of cldc_receive_pkt. */
	int (*cb)(struct cldc_call_opts *, enum cle_err_codes);
	void *CLDC_PRIVATE; /* the program's own */
	/* The library's: */
	const void *cldc_reply;
	uintptr_t cldc_check;
};

/* What a file is, apart from its contents. */
struct cldc_node_metadata {
	int64_t inum;        /* number of the inode */
	int64_t vers;        /* rises by one with each change */
	int64_t time_create; /* seconds since 1970, by the server's clock */
	int64_t time_modify;
	int flags;           /* CIFL_DIR */
	const char *inode_name; /* the path, valid as long as the callback runs */
};

#ifdef CLDC_BARE
typedef int64_t cldc_time_t;
#else
typedef time_t cldc_time_t;
/* The library passes 64 bits. If this fails, compile with -D_TIME_BITS=64 -D_FILE_OFFSET_BITS=64. */
typedef char cldc_time_t_has_64_bits[sizeof(cldc_time_t) == 8 ? 1 : -1];
#endif

/* What a session asks of the program. `private` is what the program gave with the session. */
struct cldc_ops {
	/* One timer per session. `add`: call cb(session, cb_private) once after `secs`, instead of what was set before;
	 * not `add`: cancel, the other arguments are null. Result: whether it worked. NULL if there is timer_us, or the
	 * program asks cldc_session_next_timeout itself. A timer in whole seconds makes resends slow. */
	bool (*timer_ctl)(void *CLDC_PRIVATE, bool add, int (*cb)(struct cldc_session *, void *), void *cb_private,
			  cldc_time_t secs);
	/* Sends one datagram now, and does not keep `buf`. A negative result counts as a datagram lost: it is sent again. */
	int (*pkt_send)(void *CLDC_PRIVATE, const void *addr, size_t addrlen, const void *buf, size_t buflen);
	/* Something happened to a handle, or, if that is NULL, to the session. May be NULL. */
	void (*event)(void *CLDC_PRIVATE, struct cldc_session *, struct cldc_fh *, uint32_t);
};

/* What a session needs of its surroundings. All functions get the `private` of the session. */
#define CLDC_ENV_VERSION 1
struct cldc_env {
	uint32_t version; /* CLDC_ENV_VERSION */
	/* Microseconds on a clock that never goes back and counts while the machine sleeps (Linux: CLOCK_BOOTTIME). */
	uint64_t (*now_us)(void *CLDC_PRIVATE);
	/* Fills `buf` with numbers that nobody can guess, other ones at each boot. 0, or negative. Called once. */
	int (*random)(void *CLDC_PRIVATE, void *buf, size_t len);
	/* As timer_ctl, which it replaces, in microseconds. May be NULL. */
	bool (*timer_us)(void *CLDC_PRIVATE, bool add, int (*cb)(struct cldc_session *, void *), void *cb_private,
			 uint64_t usecs);
	/* One line for the record, without a line feed; `prio` as for syslog. May be NULL. */
	void (*log)(void *CLDC_PRIVATE, int prio, const char *line);
};

/*
 * Addresses are up to 64 bytes that only pkt_send and cldc_receive_pkt look at. Those that begin as struct sockaddr_in
 * and struct sockaddr_in6 of Linux do, as these structs do, are understood: they may be among several servers, and the
 * library passes such to pkt_send when it follows the master to a server that the cell has told of. A session whose
 * first address is of another form stays with it.
 */
struct cldc_addr_in {
	uint16_t family;  /* CLDC_AF_INET, in the byte order of the machine */
	uint8_t port[2];  /* the high byte first */
	uint8_t addr[4];
	uint8_t zero[8];
};
struct cldc_addr_in6 {
	uint16_t family;  /* CLDC_AF_INET6, in the byte order of the machine */
	uint8_t port[2];  /* the high byte first */
	uint32_t flowinfo;
	uint8_t addr[16];
	uint32_t scope_id;
};
enum { CLDC_AF_INET = 2, CLDC_AF_INET6 = 10, CLDC_ADDR_MAX = 64 };

struct cldc_server {
	const void *addr;
	size_t addr_len;
};

/* More about a session. All zero but `version` is the usual. */
#define CLDC_OPTIONS_VERSION 1
struct cldc_options {
	uint32_t version;  /* CLDC_OPTIONS_VERSION */
	uint32_t lease_ms; /* the lease to ask for; 0 for 30000. The server decides */
	uint32_t drift_ppm; /* by how much the rate of a clock may be off, in millionths; 0 for 10000 */
	uint32_t connect_ms; /* for how long to try to open the session; 0 for 120000 */
	bool plain;        /* ask for a session as Hail's clients have it: one server, no sequencers */
	bool tell_lease;   /* tell of CE_LEASE_JEOPARDY and CE_LEASE_SAFE */
	const struct cldc_server *servers; /* more servers of the cell, beside the first one */
	size_t servers_len; /* 7 at most */
};

/* How far the locks of a session can be relied on. */
enum cldc_lease {
	CLDC_LEASE_SAFE = 0,     /* the server keeps the session: what is locked is locked */
	CLDC_LEASE_JEOPARDY = 1, /* the lease has run out here, or is not granted yet: do not act on locks now */
	CLDC_LEASE_EXPIRED = 2   /* the session is over */
};

/* Proof of a lock, to be shown to those who shall act only while it is held. */
struct cldc_sequencer {
	uint64_t inode;
	uint64_t generation; /* rises each time that the lock goes to others */
	uint32_t flags;      /* CLF_SHARED */
	char path[CLD_INODE_NAME_MAX + 1]; /* empty if the server could not tell it any more */
};

/* A place in the contents of a directory. */
struct cld_dirent_cur {
	const void *p; /* the program may change neither */
	size_t tmp_len;
};

/* ---- Sessions ---- */

/* Does nothing; a program written for Hail calls it first. */
void cldc_init(void);

/* The memory that a session takes, which is the same for all sessions of one library. */
size_t cldc_session_size(void);

/* For static memory: not less than cldc_session_size() of libcldc_bare as it is built without further features. */
#define CLDC_BARE_SESSION_SIZE 6144

/*
 * Opens a session in `mem`, `mem_len` bytes (cldc_session_size() or more), aligned as a uint64_t. The memory stays the
 * caller's, and must stay in place until cldc_kill_sess has returned; if that is called in a callback, until the call
 * that the callback runs in has returned. `ops` and `env` are copied; `env` may be NULL in libcldc, `options` anywhere.
 * `user` has 1 to 31 bytes, `key` 1 to 127. The first datagram leaves before this returns.
 *
 * The callback of `copts` is given CLE_OK when the session is open. Until then no requests can be made.
 */
int cldc_session_init(void *mem, size_t mem_len, const struct cldc_env *env, const struct cldc_options *options,
		      const struct cldc_ops *ops, const struct cldc_call_opts *copts, const void *addr, size_t addr_len,
		      const char *user, const char *key, void *CLDC_PRIVATE, struct cldc_session **out);

#ifndef CLDC_BARE
/* As cldc_session_init, with the usual options and the system's clock, in memory of the library's. */
int cldc_new_sess(const struct cldc_ops *ops, const struct cldc_call_opts *copts, const void *addr, size_t addr_len,
		  const char *user, const char *secret_key, void *CLDC_PRIVATE, struct cldc_session **out);
#endif

/* Forgets the session: no datagram, no callback any more. Memory of the library's is freed, and handles with it. */
void cldc_kill_sess(struct cldc_session *sess);

/* Ends the session at the server too, which releases all that it holds. With a callback, the program calls
 * cldc_kill_sess, at the earliest in it; without, the library does when the server has answered. */
int cldc_end_sess(struct cldc_session *sess, const struct cldc_call_opts *copts);

/* Takes in a datagram. Negative results need no action, they say why a datagram was ignored, or are a callback's. */
int cldc_receive_pkt(struct cldc_session *sess, const void *net_addr, size_t net_addrlen, const void *buf,
		     size_t buflen);

/* For programs without a timer: after how many microseconds cldc_session_timeout is to be called, if nothing else
 * happens to the session before; UINT64_MAX for never. Ask again after each call on the session. */
uint64_t cldc_session_next_timeout(const struct cldc_session *sess);

/* Does what is due. To be called at that time; calling it earlier does no harm. */
int cldc_session_timeout(struct cldc_session *sess);

/* How far the session's locks can be relied on now: enum cldc_lease, or negative. */
int cldc_session_lease(const struct cldc_session *sess);

/* For how many microseconds from now the lease is safe, if nothing renews it. 0 if it is not. */
uint64_t cldc_session_safe_us(const struct cldc_session *sess);

/* Whether it can move to other servers and addresses, and use sequencers: 1 or 0, or negative. */
int cldc_session_is_extended(const struct cldc_session *sess);

/* The session's id, in the order in which cld_sid2llu reads it. */
int cldc_session_sid(const struct cldc_session *sess, uint8_t sid[CLD_SID_SZ]);

/* ---- Requests ----
 *
 * Each is sent until it is answered or the session ends, and executed once. `copts` may be NULL.
 */

int cldc_nop(struct cldc_session *sess, const struct cldc_call_opts *copts);

/* Deletes a file, or an empty directory. */
int cldc_del(struct cldc_session *sess, const struct cldc_call_opts *copts, const char *pathname);

/* Opens, or creates. `*out` is set at once, and can be used when the callback is given CLE_OK; given anything else, it
 * is not valid any more. `open_mode`: COM_*; `events`: CE_UPDATED or 0, others come in any case. */
int cldc_open(struct cldc_session *sess, const struct cldc_call_opts *copts, const char *pathname, uint32_t open_mode,
	      uint32_t events, struct cldc_fh **out);

/* Closes a handle, which releases its lock. It cannot be used from now on, unless the result is negative. */
int cldc_close(struct cldc_fh *fh, const struct cldc_call_opts *copts);

/* Takes the lock: exclusive, or CLF_SHARED. If others hold it, the outcome is CLE_LOCK_PENDING, and CE_LOCKED follows
 * when it is granted; without `wait_for_lock`, CLE_LOCK_CONFLICT. */
int cldc_lock(struct cldc_fh *fh, const struct cldc_call_opts *copts, uint32_t lock_flags, bool wait_for_lock);

/* Releases the lock, or leaves its queue. */
int cldc_unlock(struct cldc_fh *fh, const struct cldc_call_opts *copts);

/* For how many microseconds the lock of the handle is held for certain, if nothing renews the lease; 0 if it is not. */
uint64_t cldc_lock_safe_us(const struct cldc_fh *fh);

/* Replaces the contents, 1 to 131072 bytes, or as many as the session's memory takes. */
int cldc_put(struct cldc_fh *fh, const struct cldc_call_opts *copts, const void *data, size_t len);

/* Reads the file; in the callback cldc_copts_get_data and cldc_copts_get_metadata have it. */
int cldc_get(struct cldc_fh *fh, const struct cldc_call_opts *copts, bool metadata_only);

/* The contents that a get has brought; valid as long as the callback runs. Otherwise NULL and 0. Do not free it. */
void cldc_copts_get_data(const struct cldc_call_opts *copts, char **data, size_t *len);

/* What the file is; otherwise all zero, with an empty name. */
void cldc_copts_get_metadata(const struct cldc_call_opts *copts, struct cldc_node_metadata *md);

/* The sequencer that a cldc_lock or cldc_get_sequencer has brought. -CLDC_EINVAL if there is none. */
int cldc_copts_get_sequencer(const struct cldc_call_opts *copts, struct cldc_sequencer *out);

/* Asks for the sequencer of the lock that the handle holds. */
int cldc_get_sequencer(struct cldc_fh *fh, const struct cldc_call_opts *copts);

/* Asks whether a sequencer stands: CLE_OK or CLE_STALE. */
int cldc_check_sequencer(struct cldc_session *sess, const struct cldc_call_opts *copts,
			 const struct cldc_sequencer *sequencer);

/* As cldc_put and cldc_del, but CLE_STALE, and nothing has changed, if the sequencer does not stand. */
int cldc_put_fenced(struct cldc_fh *fh, const struct cldc_call_opts *copts, const struct cldc_sequencer *sequencer,
		    const void *data, size_t len);
int cldc_del_fenced(struct cldc_session *sess, const struct cldc_call_opts *copts,
		    const struct cldc_sequencer *sequencer, const char *pathname);

/* ---- The contents of a directory ---- */

/* How many names there are, or -2 if the contents are not those of a directory. */
int cldc_dirent_count(const void *data, size_t len);

/* A cursor over `len` bytes, which must stay as long as it is used. */
void cldc_dirent_cur_init(struct cld_dirent_cur *dc, const void *buf, size_t len);
void cldc_dirent_cur_fini(struct cld_dirent_cur *dc);

/* To the first name, to the next one: 0, or -2 if there is none. */
int cldc_dirent_first(struct cld_dirent_cur *dc);
int cldc_dirent_next(struct cld_dirent_cur *dc);

#ifndef CLDC_BARE
/* The name, which the caller frees with free(). NULL if there is none. */
char *cldc_dirent_name(struct cld_dirent_cur *dc);
#endif

/* Copies the name, with a NUL: its length, or -CLDC_EINVAL if there is none, or -CLDC_EMSGSIZE if `len` is too little. */
int cldc_dirent_name_copy(const struct cld_dirent_cur *dc, char *buf, size_t len);

/* ---- Words ---- */

/* Static strings; "(unknown)" for other numbers. */
const char *cld_errstr(enum cle_err_codes code);
const char *cld_opstr(enum cld_msg_op op);

/* The session id as a number, as logs show it. */
unsigned long long cld_sid2llu(const uint8_t *sid);

#ifdef __cplusplus
}
#endif

#ifndef CLDC_BARE
#include "cldc_udp.h"
#endif

#endif /* CLDC_H */
