/* Creates a file, locks it, idles past a ping, and unlocks it: test_lock HOST PORT USER KEY PATH IDLE_SECONDS */
#include "common.h"

#include <unistd.h>

static void count(void *arg, unsigned int events)
{
	/* The program looks only after ncld_lock_wait, which comes after this, or by asking again. */
	*(volatile unsigned int *)arg |= events;
}

static struct ncld_fh *open_lock(struct ncld_sess *sess, const char *path, void *arg)
{
	int error = 0;
	struct ncld_fh *fh = ncld_open(sess, path, COM_WRITE | COM_LOCK | COM_CREATE, &error, 0, count, arg);
	if (!fh)
		fail(path, error);
	return fh;
}

int main(int argc, char **argv)
{
	static volatile unsigned int told;
	struct ncld_sess *sess;
	struct ncld_fh *fh, *other;
	int tries;

	if (argc != 7)
		return 2;
	ncld_init();
	sess = connect_to(argv + 1, NULL, NULL);
	fh = open_lock(sess, argv[5], NULL);
	other = open_lock(sess, argv[5], (void *)&told);
	check("cannot lock", ncld_trylock(fh));
	if (ncld_trylock(fh) != 1100 + CLE_LOCK_CONFLICT || ncld_trylock(other) != 1100 + CLE_LOCK_CONFLICT)
		fail("a lock that is held is taken", 0);
	if (ncld_lock(other, 0, 300) != 110 /* ETIMEDOUT */)
		fail("a wait for a lock does not end", 0);
	if (ncld_qlock(other) != 1)
		fail("a lock that is held is not queued for", 0);
	if (ncld_lock_wait(other, 100) != 110)
		fail("a lock that is queued for is held", 0);

	sleep((unsigned int)atoi(argv[6]));

	if (ncld_lock_safe_ms(fh) == 0)
		fail("the lock is not safe after a while", 0);
	if (ncld_lock_safe_ms(other) != 0)
		fail("a lock that is not held is safe", 0);
	check("cannot unlock", ncld_unlock(fh));
	check("the lock does not come to who queues", ncld_lock_wait(other, 30000));
	for (tries = 0; !(told & CE_LOCKED) && tries < 300; tries++)
		usleep(100 * 1000);
	if (!(told & CE_LOCKED))
		fail("nobody is told of the lock", 0);
	if (ncld_unlock(fh) != 1100 + CLE_LOCK_INVAL)
		fail("a lock that is not held is released", 0);
	/* Leaving the queue. */
	if (ncld_qlock(fh) != 1)
		fail("cannot queue again", 0);
	check("cannot leave the queue", ncld_unlock(fh));
	check("cannot unlock", ncld_unlock(other));
	ncld_close(fh);
	ncld_close(other);
	check("cannot delete", ncld_del(sess, argv[5]));
	ncld_sess_close(sess);
	return 0;
}
