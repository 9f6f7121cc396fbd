/*
 * Prints a file whenever it changes.
 *
 *	watch HOST PORT USER KEY PATH TIMES
 *
 * Creates the file if it does not exist. Ends after so many changes, or when the file is deleted.
 */
#include "common.h"

#include <pthread.h>

struct changes {
	pthread_mutex_t lock;
	pthread_cond_t more;
	unsigned int events; /* what has happened since it was looked at */
};

/* Runs on a thread of the library's: notes what happened, and leaves the work to the program's own. */
static void note(void *arg, unsigned int events)
{
	struct changes *changes = (struct changes *)arg;
	pthread_mutex_lock(&changes->lock);
	changes->events |= events;
	pthread_cond_signal(&changes->more);
	pthread_mutex_unlock(&changes->lock);
}

static unsigned int wait_for(struct changes *changes)
{
	unsigned int events;
	pthread_mutex_lock(&changes->lock);
	while (!changes->events)
		pthread_cond_wait(&changes->more, &changes->lock);
	events = changes->events;
	changes->events = 0;
	pthread_mutex_unlock(&changes->lock);
	return events;
}

static void show(struct ncld_fh *fh)
{
	int error = 0;
	struct ncld_read *found = ncld_get(fh, &error);
	if (!found)
		fail("cannot read the file", error);
	printf("version %lld: %.*s\n", (long long)found->meta.vers, (int)found->length, (const char *)found->ptr);
	fflush(stdout);
	ncld_read_free(found);
}

int main(int argc, char **argv)
{
	struct changes changes = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
	struct ncld_sess *sess;
	struct ncld_fh *fh;
	int error = 0, left;

	if (argc != 7) {
		fputs("usage: watch HOST PORT USER KEY PATH TIMES\n", stderr);
		return 2;
	}
	ncld_init();
	sess = connect_to(argv + 1, note, &changes);
	fh = ncld_open(sess, argv[5], COM_READ | COM_CREATE, &error, CE_UPDATED, note, &changes);
	if (!fh)
		fail("cannot open the file", error);
	puts("watching");
	fflush(stdout);
	for (left = atoi(argv[6]); left > 0;) {
		unsigned int events = wait_for(&changes);
		if (events & CE_SESS_FAILED)
			fail("the session is lost", 16);
		if (events & CE_DELETED)
			break;
		if (events & (CE_UPDATED | CE_MASTER_FAILOVER)) {
			show(fh);
			left--;
		}
	}
	ncld_close(fh);
	ncld_sess_close(sess);
	return 0;
}
