/* Devices that come and go, and those that are there from the start. */
#ifndef HOTPLUG_H
#define HOTPLUG_H

#include "io.h"

/* Set by the controller's interrupt: some slot changed. */
extern volatile bool hotplug_attention;

/* Looks for the controller, else for virtio devices without one, and starts what is there. */
void hotplug_init(void);
/* Serves the slots that changed. */
void hotplug_attend(void);
bool hotplug_present(void);
/* A line for each slot in use, for the command `devices`. */
void hotplug_list(void);

#endif
