/* A libnvidia-ml.so.1 whose figures stand in a mapped file that any process may move.
 *
 * The unmodified nvidia-ml-py runs against it. The file's layout is `struct state` below and, word
 * for word, `_State` in tests/support/fake_nvml.py; NVML's own structures are as nvml.h has them.
 * The file's path is in MODELMGR_FAKE_NVML. Compile with -DWITHOUT_MEMORY_V2 or
 * -DWITHOUT_PROCESSES_V3 for a driver that lacks those symbols.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DEVICES = 32, PROCESSES = 64, FAULTS = 16 };
enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15 };
enum { COMPUTE = 1, GRAPHICS = 2, OWNED = 4 };

struct process { uint32_t pid, kinds; uint64_t bytes; };
struct device {
    uint64_t total, reserved, used;
    int32_t present, parent, mig_mode, mig_index, lost, memory_error;
    uint32_t gpu_instance, compute_instance;
    char name[96], uuid[96];
    struct process processes[PROCESSES];
};
struct fault { char query[64]; int32_t code, times; };
struct state {
    int32_t driver_error, generation;
    char driver_version[80];
    struct fault faults[FAULTS];
    struct device devices[DEVICES];
};

static struct state *state;
static int initialised = -1; /* the driver's generation at nvmlInit */

static struct state *attach(void) {
    const char *path = getenv("MODELMGR_FAKE_NVML");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return NULL;
    void *map = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return map == MAP_FAILED ? NULL : map;
}

/* The error that a test ordered for this query, counted down; a prefix names a family of queries. */
static int ordered(const char *query) {
    for (int i = 0; i < FAULTS; i++) {
        struct fault *fault = &state->faults[i];
        if (fault->times == 0 || strncmp(query, fault->query, strlen(fault->query)) != 0) continue;
        if (fault->times > 0) __atomic_sub_fetch(&fault->times, 1, __ATOMIC_SEQ_CST);
        return fault->code;
    }
    return SUCCESS;
}

static int check(const char *query, const struct device *device) {
    if (state == NULL) return UNINITIALIZED;
    if (state->driver_error) return state->driver_error;
    if (initialised != state->generation) return UNINITIALIZED;
    int error = ordered(query);
    if (error) return error;
    if (device == NULL) return SUCCESS;
    if (device < state->devices || device >= state->devices + DEVICES) return INVALID_ARGUMENT;
    if (!device->present) return INVALID_ARGUMENT;
    const struct device *gpu = device->parent < 0 ? device : &state->devices[device->parent];
    return gpu->lost ? GPU_IS_LOST : SUCCESS;
}
#define CHECK(device) do { int e = check(__func__, device); if (e) return e; } while (0)

static int alive(uint32_t pid) {
    char path[64], line[512], *end;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    int live = fgets(line, sizeof line, file) && (end = strrchr(line, ')')) && end[2] != 'Z';
    fclose(file);
    return live;
}

/* A device's own figure and what living owners hold: as a driver does, a death frees. */
static uint64_t used(const struct device *device) {
    uint64_t sum = device->used;
    for (int i = 0; i < PROCESSES; i++)
        if ((device->processes[i].kinds & OWNED) && alive(device->processes[i].pid))
            sum += device->processes[i].bytes;
    return sum;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (state == NULL && (state = attach()) == NULL) return 9; /* driver not loaded */
    if (state->driver_error) return state->driver_error;
    int error = ordered(__func__);
    if (!error) initialised = state->generation;
    return error;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { CHECK(NULL); initialised = -1; return SUCCESS; }
const char *nvmlErrorString(int code) {
    return code == GPU_IS_LOST ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported" : "Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    CHECK(NULL);
    snprintf(text, length, "%s", state->driver_version);
    return SUCCESS;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    CHECK(NULL);
    *count = 0;
    for (int i = 0; i < DEVICES; i++) *count += state->devices[i].present && state->devices[i].parent < 0;
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device) {
    CHECK(NULL);
    for (int i = 0; i < DEVICES; i++) {
        struct device *found = &state->devices[i];
        if (!found->present || found->parent >= 0 || index-- > 0) continue;
        *device = found;
        return found->lost ? GPU_IS_LOST : SUCCESS;
    }
    return INVALID_ARGUMENT;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **device) {
    CHECK(NULL);
    for (int i = 0; i < DEVICES; i++) {
        struct device *found = &state->devices[i];
        if (!found->present || strcmp(found->uuid, uuid) != 0) continue;
        *device = found;
        return check(__func__, found);
    }
    return NOT_FOUND;
}
int nvmlDeviceGetName(struct device *device, char *text, unsigned length) {
    CHECK(device);
    snprintf(text, length, "%s", device->name);
    return SUCCESS;
}
int nvmlDeviceGetUUID(struct device *device, char *text, unsigned length) {
    CHECK(device);
    snprintf(text, length, "%s", device->uuid);
    return SUCCESS;
}

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *memory) {
    CHECK(device);
    if (device->memory_error) return device->memory_error;
    memory->total = device->total;
    memory->used = device->reserved + used(device); /* version 1 counts what is reserved as used */
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
#ifndef WITHOUT_MEMORY_V2
int nvmlDeviceGetMemoryInfo_v2(struct device *device, struct memory_v2 *memory) {
    CHECK(device);
    if (device->memory_error) return device->memory_error;
    if (memory->version != (sizeof *memory | 2u << 24)) return 25; /* version mismatch */
    memory->total = device->total;
    memory->reserved = device->reserved;
    memory->used = used(device);
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}
#endif

struct process_info { unsigned pid; unsigned long long bytes; unsigned gpu, compute; };
static int list(struct device *device, unsigned kind, unsigned *count, struct process_info *infos) {
    unsigned room = *count, found = 0;
    for (int i = 0; i < PROCESSES; i++) {
        struct process *process = &device->processes[i];
        if (!(process->kinds & kind)) continue;
        if ((process->kinds & OWNED) && !alive(process->pid)) continue;
        if (infos != NULL && found < room)
            infos[found] = (struct process_info){process->pid, process->bytes,
                                                 device->gpu_instance, device->compute_instance};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
#define LIST(name, kind) \
    int name(struct device *device, unsigned *count, struct process_info *infos) { \
        CHECK(device); \
        return list(device, kind, count, infos); \
    }
#ifndef WITHOUT_PROCESSES_V3
LIST(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS)
#endif
LIST(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS)

int nvmlDeviceGetMigMode(struct device *device, unsigned *current, unsigned *pending) {
    CHECK(device);
    if (device->mig_mode < 0) return NOT_SUPPORTED;
    *current = *pending = (unsigned)device->mig_mode;
    return SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(struct device *device, unsigned *count) {
    CHECK(device);
    *count = device->mig_mode < 0 ? 0 : 7;
    return SUCCESS;
}
int nvmlDeviceGetMigDeviceHandleByIndex(struct device *device, unsigned index, struct device **mig) {
    CHECK(device);
    for (int i = 0; i < DEVICES; i++) {
        struct device *found = &state->devices[i];
        if (!found->present || found->parent != device - state->devices) continue;
        if (found->mig_index != (int)index) continue;
        *mig = found;
        return SUCCESS;
    }
    return NOT_FOUND;
}
