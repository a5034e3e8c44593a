// A library that says it is a plugin; what its handshake says and what it does when it is loaded is chosen by -D.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef SIZE
#define SIZE sizeof(struct magic)
#endif
#ifndef FLAGS
#define FLAGS 1
#endif
#ifndef FIRST
#define FIRST 'L'
#endif

struct magic {
    char magic[8];
    uint32_t size;
    uint16_t major, minor, patch, reserved;
    uint32_t flags;
    char sdk[32];
};

#ifdef SHORT
__attribute__((visibility("default"))) const char LACUNA_PLUGIN_MAGIC[12] = "LACUNA\0\1";
#else
__attribute__((visibility("default"))) const struct magic LACUNA_PLUGIN_MAGIC = {
    {FIRST, 'A', 'C', 'U', 'N', 'A', 0, 1}, SIZE, MAJOR, MINOR, 0, 0, FLAGS, "9.8.7\nsix"};
#endif

#ifndef NO_ROOT
// No root module: the layout check has to refuse it.
__attribute__((visibility("default"))) const char LACUNA_PLUGIN_ROOT[4096] = {0};
#endif

#ifdef NEEDS
extern int NEEDS(void);
int needs(void) { return NEEDS(); }
#endif

#ifdef ON_LOAD
__attribute__((constructor)) static void on_load(void) { ON_LOAD; }
#endif
#ifdef ON_EXIT
__attribute__((destructor)) static void on_exit_(void) { ON_EXIT; }
#endif
