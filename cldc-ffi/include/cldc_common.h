/*
 * cldc_common.h: what Hail's programs share beside the protocol: a way to log, and a file that holds a port number.
 */
#ifndef CLDC_COMMON_H
#define CLDC_COMMON_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where messages for people go. `prio` as for syslog. The library calls `func` from its own threads too. */
struct hail_log {
	void (*func)(int prio, const char *fmt, ...);
	bool debug;
	bool verbose;
};

/* The port number that a file holds, as servers write it: 1 to 65535, or a negative errno. */
int hail_readport(const char *fname);
int cld_readport(const char *fname);

#ifdef __cplusplus
}
#endif

#endif /* CLDC_COMMON_H */
