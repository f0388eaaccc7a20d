"""Words that the rules of OKVQA's stemmer (`okvqa`) do not cover."""


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


MANUAL = _pairs("""
    adhesives:adhesive alertness:alert alpes:alp apartments:apart are:are awning:awn
    backpackers:backpack badness:bad baldness:bald bases:base batter's:batter belongings:belong
    blindness:blind boy's:boy braves:brave brightness:bright browsing:brows buildings:build
    casings:case caves:cave charioteering:chariot childrens:children christmas:christmas
    circuses:circus clothes:cloth clothing:cloth coding:code conducter:conduct
    conferences:confer coniferous:conifer containers:contain controllers:control corgie:corgi
    couponing:coupon creame:cream crepte:crept cumulis:cumuli curiousity:curious
    dangerous:danger daughter's:daughter decorations:decor designers:design dining:dine
    directions:direct domino's:domino doves:dove drives:drive drunkenness:drunken earing:ear
    earnings:earn eatting:eat electicity:elect electronics:electron elevators:elev emirates:emir
    expressions:express farmer's:farmer firefighters:firefight firefighting:firefight
    glaced:glace gloves:glove gondoliere:gondolier graves:grave haircutting:haircut
    hamburgers:hamburg hawke:hawk hearding:heard hell's:hell hornes:horn illness:ill jeans:jean
    kid's:kid kindergartener:kindergarten kiting:kite las:las leaves:leaf lenses:lens lowes:low
    markings:mark married:married mating:mate meetings:meet men's:men microwaves:microwave
    minerals:miner mopeds:mope morning:morn mountainous:mountain mustange:mustang
    nationals:nation overseas:oversea oxygenize:oxygen paintings:paint paned:pane paring:pare
    pease:peas personals:person pies:pie piping:pipe plating:plate playfulness:play
    polarizing:polar police:police pooping:poop porche:porch potatoe:potato
    professionals:profession projections:project propellers:propel protesters:protest
    pudding:pud purring:pure quantas:quanta rabbies:rabbi raines:rain reflections:reflect
    regent's:regent reminders:remind reporters:report revelations:revel riding:ride ringe:ring
    ripeness:ripe rodeoing:rodeo routes:rout sadness:sad sautee:saute scrapbooking:scrapbook
    settings:set shelves:shelve sickness:sick skateboarders:skateboard smugness:smug
    socializing:social sometimes:sometime staring:stare stockings:stock striping:stripe
    sunbathing:sunbath sunblocker:sunblock suspenders:suspend swining:swine teasing:teas
    teething:teeth tenning:ten tennis:tennis texting:text ties:tie toileting:toilet
    tomatoe:tomato toppings:top transitions:transit travelers:travel travellers:travel
    urinating:urine vacationing:vacate vandalizers:vandal vastness:vast vegas:vegas
    veteran's:veteran wading:wade walle:wall waves:wave weddings:wed wetness:wet
    wilderness:wilder womens:women yes:yes
""")
"""What OpenFlamingo sets by hand, to the letter (open_flamingo/eval/ok_vqa_utils.py, MIT)."""

VERBS = _pairs("""
    aching:ache adding:add adhering:adhere adoring:adore arranging:arrange atoning:atone
    baring:bar basting:baste bating:bat befalling:befall belying:belie biding:bid
    blossoming:blossom breathing:breathe butting:butt buzzing:buzz caning:can
    challenging:challenge changing:change chining:chin collaring:collar competing:compete
    completing:complete coning:con consoling:console coping:cop creating:create cringing:cringe
    debuting:debut deleting:delete denoting:denote developing:develop devoting:devote doting:dot
    dying:die dynamiting:dynamite ebbing:ebb equiping:equip erring:err exchanging:exchange
    exciting:excite exhaling:exhale exploring:explore fathoming:fathom focusing:focus
    frolicking:frolic gaging:gag galloping:gallop gaping:gap gassing:gas gauging:gauge
    gossiping:gossip gouging:gouge griping:grip guiding:guide hating:hat hoping:hop
    igniting:ignite ignoring:ignore inhaling:inhale interfering:interfere
    intervening:intervene inviting:invite laming:lam loathing:loathe lounging:lounge luging:lug
    lunging:lunge lying:lie moping:mop mortaring:mortar murmuring:murmur occuring:occur
    overlaping:overlap owing:owe paling:pal panicking:panic pasting:paste permeating:permeate
    persuading:persuade picnicking:picnic pining:pin plunging:plunge postponing:postpone
    priming:prim promoting:promote pyramiding:pyramid ranging:range rating:rat
    rearranging:rearrange recalling:recall reciting:recite recreating:recreate refilling:refill
    restoring:restore reuniting:reunite reviving:revive rewriting:rewrite riming:rim robing:rob
    sauting:saute scavenging:scavenge scraping:scrap shining:shin sloping:slop
    snowballing:snowball soothing:soothe spiting:spit sponging:sponge striping:strip
    sugaring:sugar taping:tap tasting:taste telephoning:telephone toping:top tying:tie
    underlying:underlie uniting:unite untying:untie vying:vie waging:wag waning:wan
    wasting:waste whizzing:whiz worshiping:worship writhing:writhe
""")
"""Verbs that the rules miss, as NLTK's lemmatiser has them: of `hop` and `hope` it takes the
shorter for `hoping`, because both are verbs."""

NO_VERBS = frozenset(
    """
    anything awning babysitting beijing bodybuilding boeing ceiling darling duckling dumpling
    earring enterprising everlasting everything fledgling herring housewarming legging
    lifesaving lightning nothing offspring oncoming outstanding paragliding pending sapling
    seedling shipbuilding sibling something sterling thanksgiving thing underling upcoming
    viking wyoming
    """.split()  # noqa: SIM905
)
"""Words in -ing that are no form of a verb."""

NO_PLURALS = frozenset(
    """
    always andreas arkansas as atlas besides bias canvas charles cosmos dallas does
    gas has hers its james kansas lens los mars news ours perhaps physics
    series species texas theirs thomas was
    """.split()  # noqa: SIM905
)
"""Words in s that are no plurals, besides those in ss, us and is."""

PLURALS = _pairs("""
    axes:axis bacteria:bacterium buses:bus businessmen:businessman children:child crises:crisis
    data:datum firemen:fireman fishermen:fisherman media:medium men:man menus:menu mice:mouse
    movies:movie moves:move people:person policemen:policeman quizzes:quiz salesmen:salesman
    snowmen:snowman women:woman zombies:zombie
""")
"""Plurals that the rules miss; those that OpenFlamingo misses too (`feet`, `teeth`) stay."""
