/* Writes a file, reads it back, lists its directory, deletes it: test_file HOST PORT USER KEY NAME */
#include "common.h"

static struct ncld_fh *open_file(struct ncld_sess *sess, const char *path, unsigned int mode)
{
	int error = 0;
	struct ncld_fh *fh = ncld_open(sess, path, mode, &error, 0, NULL, NULL);
	if (!fh)
		fail(path, error);
	return fh;
}

static void is_listed(struct ncld_sess *sess, const char *name, int expected)
{
	int error = 0, found = 0;
	struct ncld_fh *fh = open_file(sess, "/", COM_READ | COM_DIRECTORY);
	struct ncld_read *dir = ncld_get(fh, &error);
	struct cld_dirent_cur dc;
	if (!dir)
		fail("cannot list /", error);
	cldc_dirent_cur_init(&dc, dir->ptr, (size_t)dir->length);
	if (cldc_dirent_first(&dc) == 0) {
		do {
			char *entry = cldc_dirent_name(&dc);
			found += strcmp(entry, name) == 0;
			free(entry);
		} while (cldc_dirent_next(&dc) == 0);
	}
	cldc_dirent_cur_fini(&dc);
	if (found != expected)
		fail("the list of the directory is wrong", 0);
	ncld_read_free(dir);
	ncld_close(fh);
}

int main(int argc, char **argv)
{
	static char large[CLD_MAX_PAYLOAD_SZ];
	struct ncld_sess *sess;
	struct ncld_fh *fh;
	struct ncld_read *got, *meta;
	char path[CLD_INODE_NAME_MAX];
	int error = 0;
	size_t at;

	if (argc != 6)
		return 2;
	snprintf(path, sizeof(path), "/%s", argv[5]);
	for (at = 0; at < sizeof(large); at++)
		large[at] = (char)(at * 7 + at / 251);
	ncld_init();
	sess = connect_to(argv + 1, NULL, NULL);
	fh = open_file(sess, path, COM_READ | COM_WRITE | COM_CREATE);
	check("cannot write", ncld_write(fh, "hello", 5));
	check("cannot write much", ncld_write(fh, large, sizeof(large)));
	if (ncld_write(fh, large, 0) != 22 || ncld_write(fh, large, CLD_MAX_PAYLOAD_SZ + 1L) != 22)
		fail("contents of a wrong length are taken", 0);
	got = ncld_get(fh, &error);
	if (!got)
		fail("cannot read", error);
	if (got->length != (long)sizeof(large) || memcmp(got->ptr, large, sizeof(large)) != 0)
		fail("what was read is not what was written", 0);
	/* Both may be kept. */
	meta = ncld_get_meta(fh, &error);
	if (!meta)
		fail("cannot read the metadata", error);
	if (meta->ptr || meta->length != 0 || meta->meta.vers != got->meta.vers ||
	    strcmp(got->meta.inode_name, path) != 0 || strcmp(meta->meta.inode_name, path) != 0)
		fail("the metadata are wrong", 0);
	ncld_read_free(got);
	ncld_read_free(meta);
	ncld_close(fh);
	if (ncld_get(fh, &error) || error != 22)
		fail("a closed handle is taken for an open one", error);
	is_listed(sess, argv[5], 1);
	check("cannot delete", ncld_del(sess, path));
	is_listed(sess, argv[5], 0);
	if (ncld_del(sess, path) != 1100 + CLE_NAME_INVAL)
		fail("a file that is gone is deleted", 0);
	ncld_sess_close(sess);
	return 0;
}
