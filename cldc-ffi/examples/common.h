/* What the programs in this folder share: words for the results of ncld calls, and arguments. */
#ifndef COMMON_H
#define COMMON_H

#include <ncld.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a result of an ncld call says. */
static inline const char *words(int result)
{
	if (result >= 1100)
		return cld_errstr((enum cle_err_codes)(result - 1100));
	return strerror(result < 0 ? -result : result);
}

/* Says what has failed, and ends the program. */
static inline void fail(const char *what, int result)
{
	fprintf(stderr, "%s: %s (%d)\n", what, words(result), result);
	exit(1);
}

static inline void check(const char *what, int result)
{
	if (result != 0)
		fail(what, result);
}

/* Opens a session: `argv` begins with HOST PORT USER KEY. */
static inline struct ncld_sess *connect_to(char **argv, void (*event)(void *, unsigned int), void *arg)
{
	int error = 0;
	struct ncld_sess *sess =
		ncld_sess_open(argv[0], atoi(argv[1]), &error, event, arg, argv[2], argv[3], NULL);
	if (!sess)
		fail("cannot open a session", error);
	return sess;
}

#endif
