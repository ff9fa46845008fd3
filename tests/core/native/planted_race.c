/* Two threads write one plain variable: the fault that ThreadSanitizer must report. */
#include <pthread.h>
#include <stdint.h>

static uint64_t shared;

static void *touch(void *unused) {
    for (int i = 0; i < 1000; i++) shared++;
    return unused;
}

int main(void) {
    pthread_t other;
    pthread_create(&other, NULL, touch, NULL);
    touch(NULL);
    pthread_join(other, NULL);
    return 0;
}
