/* Opens a session, and closes it: test_session HOST PORT USER KEY */
#include "common.h"

int main(int argc, char **argv)
{
	struct ncld_sess *sess;
	if (argc != 5)
		return 2;
	ncld_init();
	sess = connect_to(argv + 1, NULL, NULL);
	if (ncld_sess_lease(sess) != CLDC_LEASE_SAFE)
		fail("a session that has just been opened is not safe", 0);
	ncld_sess_close(sess);
	/* What is closed is no session any more. */
	if (ncld_sess_lease(sess) >= 0 || ncld_del(sess, "/x") != 22)
		fail("a closed session is taken for an open one", 0);
	ncld_sess_close(sess);
	return 0;
}
