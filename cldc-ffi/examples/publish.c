/*
 * Publishes an address under a lock: of all that run this program on one path, one is the leader at any time, and the
 * file holds its address.
 *
 *	publish HOST PORT USER KEY PATH ADDRESS SECONDS
 *
 * Waits for the lock as long as it takes, and gives up leadership after so many seconds, or at once when the lock is
 * not certain any more.
 */
#include "common.h"

#include <time.h>
#include <unistd.h>

/* Do not go on with what the lock protects if it is safe for less than this. */
enum { ENOUGH_MS = 1000 };

static void lost(void *arg, unsigned int events)
{
	(void)arg;
	if (events & CE_SESS_FAILED)
		fputs("the session is lost\n", stderr);
}

int main(int argc, char **argv)
{
	struct ncld_sess *sess;
	struct ncld_fh *fh;
	char sequencer[NCLD_SEQUENCER_MAX];
	int error = 0;
	time_t until;

	if (argc != 8) {
		fputs("usage: publish HOST PORT USER KEY PATH ADDRESS SECONDS\n", stderr);
		return 2;
	}
	ncld_init();
	sess = connect_to(argv + 1, lost, NULL);
	fh = ncld_open(sess, argv[5], COM_READ | COM_WRITE | COM_LOCK | COM_CREATE, &error, 0, NULL, NULL);
	if (!fh)
		fail("cannot open the file", error);

	error = ncld_qlock(fh);
	if (error == 1) {
		puts("waiting");
		fflush(stdout);
		while ((error = ncld_lock_wait(fh, 3600 * 1000)) == 110 /* ETIMEDOUT */)
			;
	}
	check("cannot take the lock", error);

	/* With a sequencer the server itself refuses what comes after the lock has gone. */
	if (ncld_sequencer(fh, sequencer, sizeof(sequencer)) == 0)
		error = ncld_write_fenced(fh, sequencer, argv[6], (long)strlen(argv[6]));
	else
		error = ncld_write(fh, argv[6], (long)strlen(argv[6]));
	check("cannot write the address", error);
	printf("leading as %s\n", argv[6]);
	fflush(stdout);

	until = time(NULL) + atoi(argv[7]);
	while (time(NULL) < until && ncld_lock_safe_ms(fh) > ENOUGH_MS)
		usleep(100 * 1000);
	if (time(NULL) < until)
		fail("stopped leading: the lock is not certain any more", 16);

	ncld_close(fh);
	ncld_sess_close(sess);
	puts("done");
	return 0;
}
