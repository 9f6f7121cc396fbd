/*
 * ncld.h: blocking calls for the CLD lock service, for C and C++.
 *
 * The calls of Project Hail's ncld.h, so that a program written for it compiles and works, and what they lacked:
 * waiting for a lock, events of files, deadlines, the state of the lease, and a close that ends the session.
 *
 * Results       0, or what went wrong:
 *                 -EBUSY        the session is over, or being closed
 *                 below 1000    an errno of the system: EINVAL, EMFILE, ETIMEDOUT, EOPNOTSUPP (no sequencers here)
 *                 1001          no server was found by DNS
 *                 1023          no such host, or no socket or thread
 *                 1100 + code   the server's refusal: enum cle_err_codes, in words by cld_errstr(result - 1100)
 *               Calls that give a pointer give NULL, and the result in *error (may be NULL), there EBUSY without a sign.
 * Deadlines     Every call returns by the session's deadline: 120 s unless it is set. What was asked may still be done.
 * Threads       All calls may be made from all threads at once. The library has two threads per session.
 * Callbacks     They run one after the other on a thread of the library's, without a lock, and may make any call. After
 *               ncld_close, or ncld_sess_close, has returned, none runs for the handle, or the session, any more; called
 *               in a callback, these return at once.
 * Misuse        Null, a handle that is closed, of another kind, or never was one: EINVAL. Never a crash.
 */
#ifndef NCLD_H
#define NCLD_H

#include "cldc.h"
#include "cldc_common.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ncld_sess;
struct ncld_fh;

/* A file as it was read. */
struct ncld_read {
	const void *ptr; /* the contents, NULL if only the metadata was asked for */
	long length;
	struct cldc_node_metadata meta; /* the name in it lives as long as this */
};

/* Does nothing; a program written for Hail calls it first. */
void ncld_init(void);

/* ---- Sessions ---- */

/*
 * Opens a session; 1100 + CLE_TIMEOUT if no server answers within 120 s. `host` may be several, with commas between them, each with a port of its own if it
 * has one (`a.example,b.example:8082,[::1]:8083`). NULL asks DNS, which this version cannot: *error is 1001.
 *
 * `event` (may be NULL) is told of CE_SESS_FAILED, and of CE_MASTER_FAILOVER. `log` may be NULL.
 */
struct ncld_sess *ncld_sess_open(const char *host, int port, int *error, void (*event)(void *, unsigned int),
				 void *ev_arg, const char *user, const char *key, struct hail_log *log);

/* Ends the session, which releases all that it holds, and waits until the server knows, at most 5 s or until the
 * deadline. Its handles are closed with it. */
void ncld_sess_close(struct ncld_sess *sess);

/* From now on calls of the session, and of its handles, take no longer than this: more than 0. */
int ncld_sess_set_deadline(struct ncld_sess *sess, unsigned int msec);

/* How far the session's locks can be relied on now: enum cldc_lease, or -EINVAL. */
int ncld_sess_lease(struct ncld_sess *sess);

/* Waits until the lease is no longer as `from` (enum cldc_lease) says, at most so long; gives what it is then. */
int ncld_sess_wait_lease(struct ncld_sess *sess, int from, unsigned int msec);

/* ---- Files ---- */

/*
 * Opens, or creates: COM_* for `mode`. `event` (may be NULL) is told what happens to the file: CE_UPDATED if `events`
 * has it, CE_DELETED, and CE_LOCKED after ncld_qlock.
 */
struct ncld_fh *ncld_open(struct ncld_sess *sess, const char *fname, unsigned int mode, int *error,
			  unsigned int events, void (*event)(void *, unsigned int), void *ev_arg);

/* Closes the handle, which releases its lock, and waits until the server knows. */
void ncld_close(struct ncld_fh *fh);

/* Deletes a file, or an empty directory. */
int ncld_del(struct ncld_sess *sess, const char *fname);

/* Reads all of the file; or only what it is. To be freed by ncld_read_free; any number may be kept. */
struct ncld_read *ncld_get(struct ncld_fh *fh, int *error);
struct ncld_read *ncld_get_meta(struct ncld_fh *fh, int *error);
void ncld_read_free(struct ncld_read *rp);

/* Replaces the contents: 1 to 131072 bytes. */
int ncld_write(struct ncld_fh *fh, const void *data, long len);

/* ---- Locks ---- */

/* Takes the lock unless others hold it: then 1100 + CLE_LOCK_CONFLICT. */
int ncld_trylock(struct ncld_fh *fh);

/* Takes the lock, or queues for it: then 1, and CE_LOCKED, or ncld_lock_wait, tells when it is held. */
int ncld_qlock(struct ncld_fh *fh);

/* Waits for a lock that ncld_qlock queues for, at most so long: 0 if it is held, ETIMEDOUT if it still queues,
 * 1100 + CLE_LOCK_INVAL if it neither holds it nor queues. */
int ncld_lock_wait(struct ncld_fh *fh, unsigned int msec);

/* Takes the lock, exclusive or CLF_SHARED, and waits for it at most so long: then ETIMEDOUT, and the queue is left. */
int ncld_lock(struct ncld_fh *fh, unsigned int flags, unsigned int msec);

/* Releases the lock, or leaves its queue. */
int ncld_unlock(struct ncld_fh *fh);

/* For how many milliseconds the lock is held for certain, if nothing renews the lease; 0 if it is not. Ask before each
 * step that needs the lock. */
unsigned long ncld_lock_safe_ms(struct ncld_fh *fh);

/*
 * The sequencer of a lock that is held, as text (`x:INODE:GENERATION:PATH`): proof of the lock for others. 0, ERANGE if
 * `len` is too little, EOPNOTSUPP if the server has none, 1100 + CLE_LOCK_INVAL if the lock is not held.
 */
int ncld_sequencer(struct ncld_fh *fh, char *buf, size_t len);

/* Room for any sequencer with its NUL. */
#define NCLD_SEQUENCER_MAX 304

/* Whether a sequencer stands: 0, or 1100 + CLE_STALE. */
int ncld_check_sequencer(struct ncld_sess *sess, const char *sequencer);

/* As ncld_write and ncld_del, but 1100 + CLE_STALE, and nothing has changed, if the sequencer does not stand. */
int ncld_write_fenced(struct ncld_fh *fh, const char *sequencer, const void *data, long len);
int ncld_del_fenced(struct ncld_sess *sess, const char *sequencer, const char *fname);

#ifdef __cplusplus
}
#endif

#endif /* NCLD_H */
