"""The articles of the news page: slug, title, summary, body."""

ARTICLES = (
    (
        "three-hulls-one-boat",
        "Why our booking site never closes for maintenance",
        "Servers come and go behind these pages all day. You are not supposed to notice, and here is how.",
        "Every page you read on this site is made by one of several identical servers. When we change something, new servers"
        " start beside the old ones, traffic moves over, and the old ones finish what they were doing.\n\nThe name of the"
        " server that made a page stands at its foot. Reload a few times and watch it change.",
    ),
    (
        "last-seat",
        "The last seat is sold once",
        "Two people, two browsers, one seat: what happens when both press the button.",
        "Seats are taken by a single statement that checks and subtracts at the same time. The database lets one buyer through"
        " and tells the other that the flight is full. Nobody is asked to give a seat back at the gate.",
    ),
    (
        "great-circles",
        "Why the shortest way to Tokyo leads over the ice",
        "A straight line on a map is rarely the shortest way on a globe.",
        "Distances on this site are measured along great circles, the shortest way between two points of a sphere. From"
        " Frankfurt to Tokyo that way leads over Siberia, from New York to Hong Kong almost over the pole.",
    ),
    (
        "small-airports",
        "Twenty-eight thousand airports",
        "Most of them have one runway and no café.",
        "Our directory lists every airfield with an international code, from the largest hubs to strips of gravel. Browse them"
        " by country; those with a three-letter code have flights.",
    ),
    (
        "packing",
        "What to pack for a boat with three hulls",
        "A short list from our crews.",
        "A soft bag, a warm layer, something against the sun, and a book that may get wet. Leave the hard suitcase at home.",
    ),
)
