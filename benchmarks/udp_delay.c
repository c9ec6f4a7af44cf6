/* An LD_PRELOAD shim: every UDP datagram of the process leaves a fixed time later.
 *
 *   UDP_DELAY_MS     one-way delay in milliseconds
 *   UDP_DELAY_LOSS   share of datagrams dropped, 0 to 1
 *   UDP_DELAY_STATE  a file of 65,536 + 16 bytes, shared with whoever drives the process:
 *                    byte p != 0 silences UDP port p (nothing leaves it, nothing reaches it);
 *                    then two counts of 8 bytes: datagrams sent, and datagrams that a silent
 *                    port has swallowed.
 *
 * The delay is the same for all, so a queue in order of sending is in order of delivery. The
 * sender is told at once that all went well, as a kernel with an empty buffer would.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PORTS 65536
#define STATE_BYTES (PORTS + 2 * sizeof(uint64_t))

enum count { SENT, SWALLOWED };

struct datagram {
    struct datagram *next;
    struct timespec due;
    int fd;
    size_t length;
    socklen_t to_length;
    struct sockaddr_storage to;
    unsigned char bytes[];
};

static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static int (*real_sendmmsg)(int, struct mmsghdr *, unsigned, int);
static ssize_t (*real_send)(int, const void *, size_t, int);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled;
static struct datagram *head, *tail;
static long delay_ns;
static double loss;
static unsigned seed = 12345;
static unsigned char *state;

static int is_udp(int fd)
{
    int kind, family;
    socklen_t size = sizeof kind;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) || kind != SOCK_DGRAM)
        return 0;
    size = sizeof family;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size))
        return 0;
    return family == AF_INET || family == AF_INET6;
}

static unsigned port_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return 0;
}

static int silenced(int fd, const struct sockaddr_storage *to, socklen_t to_length)
{
    struct sockaddr_storage own, other;
    socklen_t size = sizeof own;
    if (!state)
        return 0;
    if (!getsockname(fd, (struct sockaddr *)&own, &size) && state[port_of(&own)])
        return 1;
    size = sizeof other;
    if (!to_length && !getpeername(fd, (struct sockaddr *)&other, &size))
        return state[port_of(&other)];
    return to_length && state[port_of(to)];
}

static void *deliver(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!head)
            pthread_cond_wait(&filled, &lock);
        struct datagram *first = head;
        pthread_mutex_unlock(&lock);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &first->due, NULL))
            ;
        pthread_mutex_lock(&lock);
        head = first->next;
        if (!head)
            tail = NULL;
        pthread_mutex_unlock(&lock);
        if (is_udp(first->fd)) /* closed meanwhile, the number may be another file's */
            real_sendto(first->fd, first->bytes, first->length, MSG_DONTWAIT | MSG_NOSIGNAL,
                        first->to_length ? (struct sockaddr *)&first->to : NULL,
                        first->to_length);
        free(first);
        pthread_mutex_lock(&lock);
    }
    return NULL;
}

static void start(void)
{
    real_sendto = dlsym(RTLD_NEXT, "sendto");
    real_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    real_sendmmsg = dlsym(RTLD_NEXT, "sendmmsg");
    real_send = dlsym(RTLD_NEXT, "send");
    const char *text = getenv("UDP_DELAY_MS");
    delay_ns = text ? (long)(atof(text) * 1e6) : 0;
    text = getenv("UDP_DELAY_LOSS");
    loss = text ? atof(text) : 0;
    if ((text = getenv("UDP_DELAY_STATE"))) {
        int fd = open(text, O_RDWR | O_CLOEXEC);
        void *mapped = fd < 0 ? MAP_FAILED
                              : mmap(NULL, STATE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped == MAP_FAILED)
            abort(); /* a run without its faults must not pass for one with them */
        state = mapped;
        close(fd);
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_cond_init(&filled, &attributes);
    pthread_t thread;
    if (pthread_create(&thread, NULL, deliver, NULL))
        abort();
    pthread_detach(thread);
}

static void count(enum count which)
{
    if (state)
        __atomic_add_fetch((uint64_t *)(state + PORTS) + which, 1, __ATOMIC_RELAXED);
}

static ssize_t queue(int fd, const struct iovec *parts, size_t parts_count, const void *to,
                     socklen_t to_length)
{
    size_t length = 0;
    for (size_t i = 0; i < parts_count; i++)
        length += parts[i].iov_len;
    struct datagram *made = malloc(sizeof *made + length);
    if (!made)
        abort();
    made->next = NULL;
    made->fd = fd;
    made->length = length;
    made->to_length = to_length;
    if (to_length)
        memcpy(&made->to, to, to_length);
    unsigned char *end = made->bytes;
    for (size_t i = 0; i < parts_count; i++)
        end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
    if (silenced(fd, &made->to, to_length)) {
        free(made);
        count(SWALLOWED);
        return (ssize_t)length;
    }
    count(SENT);
    pthread_mutex_lock(&lock);
    if (loss > 0 && rand_r(&seed) / (double)RAND_MAX < loss) {
        free(made);
    } else {
        clock_gettime(CLOCK_MONOTONIC, &made->due);
        made->due.tv_nsec += delay_ns;
        made->due.tv_sec += made->due.tv_nsec / 1000000000;
        made->due.tv_nsec %= 1000000000;
        if (tail)
            tail->next = made;
        else
            head = made;
        tail = made;
        pthread_cond_signal(&filled);
    }
    pthread_mutex_unlock(&lock);
    return (ssize_t)length;
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to,
               socklen_t to_length)
{
    pthread_once(&once, start);
    if (!is_udp(fd))
        return real_sendto(fd, bytes, length, flags, to, to_length);
    struct iovec part = {(void *)bytes, length};
    return queue(fd, &part, 1, to, to ? to_length : 0);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    pthread_once(&once, start);
    if (!is_udp(fd))
        return real_send(fd, bytes, length, flags);
    struct iovec part = {(void *)bytes, length};
    return queue(fd, &part, 1, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    pthread_once(&once, start);
    if (!is_udp(fd))
        return real_sendmsg(fd, message, flags);
    return queue(fd, message->msg_iov, message->msg_iovlen, message->msg_name,
                 message->msg_name ? message->msg_namelen : 0);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned number, int flags)
{
    pthread_once(&once, start);
    if (!is_udp(fd))
        return real_sendmmsg(fd, messages, number, flags);
    for (unsigned i = 0; i < number; i++)
        messages[i].msg_len = (unsigned)sendmsg(fd, &messages[i].msg_hdr, flags);
    return (int)number;
}
